//! Where templates and partials are found. Looks at the disk while the GVL is held: these are small files, read once.

use iodine_codec::mustache::{Loaded, Loader};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names of this length and longer are refused, as in 0.7.
const MAX_NAME: usize = 8192;

/// Why there is no text for a name.
#[derive(Debug)]
pub enum Missing {
    /// No such file, or one that can not be read.
    NotFound(Vec<u8>),
    NameTooLong,
    NoName,
}

/// The files of one template: itself and its partials.
pub struct Files {
    units: Vec<Unit>,
    /// Units by file and search list: where its own partials come from depends on who includes it.
    known: HashMap<(PathBuf, Vec<PathBuf>), usize>,
    /// The name of a template whose text was given: whoever names that means the text.
    given: Option<PathBuf>,
}

struct Unit {
    path: PathBuf,
    /// Where to look for its partials: beside it, then beside those that include it.
    folders: Vec<Folder>,
}

#[derive(Clone)]
struct Folder {
    /// Relative to the working directory, and empty for that itself.
    path: PathBuf,
    /// Free of links and `..`, so that no detour makes a new folder.
    real: PathBuf,
}

impl Files {
    /// For a text that was given; `name` supplies the folder of its partials.
    pub fn around(name: Option<&[u8]>) -> Result<Files, Missing> {
        let name = name.unwrap_or_default();
        if name.len() >= MAX_NAME {
            return Err(Missing::NameTooLong);
        }
        let path = path_of(name);
        let given = (!name.is_empty()).then(|| path.to_owned());
        let unit = Unit { path: path.to_owned(), folders: folders(path, &[]) };
        Ok(Files { units: vec![unit], known: HashMap::new(), given })
    }

    /// Reads the template in the file `name`.
    pub fn open(name: &[u8]) -> Result<(Files, Vec<u8>), Missing> {
        if name.is_empty() {
            return Err(Missing::NoName);
        }
        if name.len() >= MAX_NAME {
            return Err(Missing::NameTooLong);
        }
        let found = candidates(name, Path::new("")).into_iter().find_map(read);
        let (path, text) = found.ok_or_else(|| Missing::NotFound(name.to_vec()))?;
        let mut files = Files { units: Vec::new(), known: HashMap::new(), given: None };
        files.add(path, &[]);
        Ok((files, text))
    }

    /// The path of a unit as messages should show it.
    pub fn path(&self, unit: usize) -> String {
        match self.units.get(unit) {
            Some(unit) if !unit.path.as_os_str().is_empty() => unit.path.to_string_lossy().into_owned(),
            _ => "(template)".to_owned(),
        }
    }

    /// The number of the unit for the file at `path`, included from `around`; true when it is a new one.
    fn add(&mut self, path: PathBuf, around: &[Folder]) -> (usize, bool) {
        let folders = folders(&path, around);
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let key = (real, folders.iter().map(|folder| folder.real.clone()).collect());
        let next = self.units.len();
        let number = *self.known.entry(key).or_insert(next);
        if number == next {
            self.units.push(Unit { path, folders });
        }
        (number, number == next)
    }
}

impl Loader for Files {
    type Error = Missing;

    fn load(&mut self, name: &[u8], within: usize) -> Result<Loaded, Missing> {
        if name.len() >= MAX_NAME {
            return Err(Missing::NameTooLong);
        }
        if self.given.as_deref() == Some(path_of(name)) {
            return Ok(Loaded::Known(0));
        }
        let around = self.units.get(within).map(|unit| unit.folders.clone()).unwrap_or_default();
        for path in around.iter().flat_map(|folder| candidates(name, &folder.path)) {
            if self.given.as_ref() == Some(&path) {
                return Ok(Loaded::Known(0));
            }
            if let Some((path, text)) = read(path) {
                return Ok(match self.add(path, &around) {
                    (_, true) => Loaded::New(text),
                    (known, false) => Loaded::Known(known),
                });
            }
        }
        Err(Missing::NotFound(name.to_vec()))
    }
}

fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// The file itself, then with `.mustache`. An absolute name stands for itself in every folder.
fn candidates(name: &[u8], folder: &Path) -> [PathBuf; 2] {
    [folder.join(path_of(name)), folder.join(path_of(&[name, b".mustache"].concat()))]
}

fn read(path: PathBuf) -> Option<(PathBuf, Vec<u8>)> {
    // What is no file (a pipe, a device) could keep us waiting for ever.
    let text =
        path.metadata().ok().filter(|found| found.is_file()).and_then(|_| std::fs::read(&path).ok())?;
    Some((path, text))
}

/// The folder of `path`, then those around it, each once.
fn folders(path: &Path, around: &[Folder]) -> Vec<Folder> {
    let own = path.parent().unwrap_or(Path::new("")).to_owned();
    let shown = if own.as_os_str().is_empty() { Path::new(".") } else { &own };
    let real = shown.canonicalize().unwrap_or_else(|_| own.clone());
    let others = around.iter().filter(|folder| folder.real != real).cloned().collect::<Vec<_>>();
    [vec![Folder { path: own, real }], others].concat()
}
