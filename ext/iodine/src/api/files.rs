//! Static files and files named by the application: from options to settings of the core.

use super::option;
use iodine_codec::http1::prepare_line;
use iodine_core::StaticFiles;
use iodine_core::static_files::{self, Rule, StaticConfig};
use magnus::{Error, RArray, RHash, Ruby};
use std::path::PathBuf;
use std::sync::Arc;

/// The option `files`: `{ folder:, hidden:, links_out:, rules: [[pattern, [[name, value], ...]], ...] }`.
pub fn of(ruby: &Ruby, options: RHash) -> Result<Option<Arc<StaticFiles>>, Error> {
    let Some(files) = option::<RHash>(ruby, options, "files")? else { return Ok(None) };
    let Some(folder) = option(ruby, files, "folder")? else { return Ok(None) };
    let rules: Option<RArray> = option(ruby, files, "rules")?;
    Ok(Some(Arc::new(StaticFiles::new(StaticConfig {
        folder,
        hidden: option(ruby, files, "hidden")?.unwrap_or(false),
        links_out: option(ruby, files, "links_out")?.unwrap_or(false),
        rules: rules.map_or(Ok(Vec::new()), |rules| rules_of(ruby, rules))?,
    }))))
}

/// The option `sendfile_roots`: nil when the headers are not honoured, else folders.
pub fn sendfile(ruby: &Ruby, options: RHash) -> Result<Option<Vec<PathBuf>>, Error> {
    option::<RArray>(ruby, options, "sendfile_roots")?.map(|roots| roots.to_vec()).transpose()
}

/// `set_media_type(extension, type)`
pub fn set_media_type(ruby: &Ruby, extension: String, media_type: String) -> Result<(), Error> {
    check(ruby, "content-type", &media_type)?;
    static_files::set_media_type(&extension, &media_type);
    Ok(())
}

fn rules_of(ruby: &Ruby, rules: RArray) -> Result<Vec<Rule>, Error> {
    let rules: Vec<(String, Vec<(String, String)>)> = rules.to_vec()?;
    for (name, value) in rules.iter().flat_map(|(_, headers)| headers) {
        check(ruby, name, value)?;
    }
    Ok(rules.into_iter().map(|(pattern, headers)| Rule::new(&pattern, headers)).collect())
}

fn check(ruby: &Ruby, name: &str, value: &str) -> Result<(), Error> {
    prepare_line(&mut Vec::new(), name.as_bytes(), value.as_bytes()).map_err(|error| {
        let text = format!("{error}: {:?}", format!("{name}: {value}"));
        Error::new(ruby.exception_arg_error(), text)
    })
}
