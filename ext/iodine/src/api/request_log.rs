//! The request log: from options to settings of the core, and what HUP asks for.

use super::option;
use iodine_codec::access_log::Format;
use iodine_core::AccessLog;
use iodine_core::log::{self, Destination};
use magnus::{Error, Object, RHash, RModule, Ruby, function};
use std::path::PathBuf;

/// Defines the primitives.
pub fn init(base: RModule) -> Result<(), Error> {
    base.define_singleton_method("reopen_logs", function!(log::reopen_files, 0))?;
    base.define_singleton_method("log_files?", function!(log::are_files_open, 0))
}

/// The option `log`: nil, or `{ format:, file:, stdout: }`, which all may be missing. Opens the file.
pub fn of(ruby: &Ruby, options: RHash) -> Result<Option<AccessLog>, Error> {
    let Some(log) = option::<RHash>(ruby, options, "log")? else { return Ok(None) };
    let format = option::<String>(ruby, log, "format")?.unwrap_or_else(|| "iodine".into());
    let format = Format::parse(&format)
        .map_err(|bad| Error::new(ruby.exception_arg_error(), format!("log_format: {bad}")))?;
    let destination = match option::<PathBuf>(ruby, log, "file")? {
        Some(path) => Destination::file(&path).map_err(|error| {
            let text = format!("log_to: can not open {}: {error}", path.display());
            Error::new(ruby.exception_runtime_error(), text)
        })?,
        None if option::<bool>(ruby, log, "stdout")?.unwrap_or(false) => Destination::Stdout,
        None => Destination::Stderr,
    };
    Ok(Some(AccessLog { format, destination }))
}

/// Whether requests are to have ids: because somebody says so, or because a line is not complete without.
pub fn wants_request_id(ruby: &Ruby, options: RHash, log: Option<&AccessLog>) -> Result<bool, Error> {
    let named = |name| option::<bool>(ruby, options, name).map(|given| given.unwrap_or(false));
    let logged = log.is_some_and(|log| log.format.wants_request_id());
    Ok(named("request_id")? || named("request_id_response")? || logged)
}
