//! Reading small files whole: no pipe that nobody writes to, no device without an end. And replacing files: those that are files, and no
//! link to one elsewhere.

use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::fault;

/// Largest size of a run file, a report or a picture that is read, in bytes.
pub(crate) const SMALL: u64 = 16 << 20;

/// Largest size of a log or of metrics that is read, in bytes.
pub(crate) const LARGE: u64 = 4 << 30;

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// Errors of opening and reading; `InvalidInput` for anything but a regular file, `FileTooLarge` for a longer one.
pub(crate) fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe waits for who writes to it.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = vec![];
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// Reads the text of a regular file of at most `most` bytes. Invalid UTF-8 is replaced by U+FFFD.
///
/// # Errors
/// As `bytes`.
pub(crate) fn text(path: &Path, most: u64) -> io::Result<String> {
    bytes(path, most).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Metadata of the regular file at `path`, which may be replaced; none if there is no file.
///
/// # Errors
/// `CannotCreate` for a link, a folder, a pipe or a device.
pub(crate) fn replaceable(path: &Path) -> Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::create(path, e)),
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) => {
            let what = if found.is_symlink() { "a link" } else { "no regular file" };
            Err(Error::CannotCreate(format!("{} is {what}, and is not replaced: name another file", path.display()).into()))
        }
    }
}

/// Fails unless a folder can be made or is empty.
///
/// # Errors
/// `CannotCreate`.
pub(crate) fn expect_new_folder(folder: &Path) -> Result<()> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::CannotCreate(format!("{} is not empty: name a new folder", folder.display()).into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::create(folder, e)),
    }
}

/// Folder of a file; for a bare name, the current folder.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Extension of a file's name in lower case, without the dot; empty without one.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Makes the names of a folder's files durable. Windows cannot open a folder as a file, and some file systems cannot sync one: there the
/// rename alone has to do.
fn sync_folder(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, Unsupported};
    if !cfg!(unix) {
        return Ok(());
    }
    match std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(e) if matches!(e.kind(), InvalidInput | Unsupported) => Ok(()),
        other => other,
    }
}

/// Prefix of the names of temporary files that are still being written.
pub(crate) const UNFINISHED: &str = ".writing-";

/// Creates a temporary file beside `path`, with an unpredictable name, which takes the place of `path` (`NamedTempFile::persist`) when it
/// is whole. It has the mode of the file it replaces, and its owner if the system allows that.
///
/// # Errors
/// As `replaceable`, and `failed`, such as `Error::create`, when the folder takes no file.
pub(crate) fn beside(path: &Path, failed: fn(&Path, io::Error) -> Error) -> Result<NamedTempFile> {
    // Windows has neither modes nor owners.
    #[cfg_attr(not(unix), expect(unused_variables))]
    let replaced = replaceable(path)?;
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; this one is to be as readable as any other.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(PermissionsExt::from_mode(replaced.as_ref().map_or(0o644, |file| file.permissions().mode() & 0o7777)));
    }
    let file = builder.prefix(UNFINISHED).tempfile_in(folder_of(path)).map_err(|e| failed(path, e))?;
    #[cfg(unix)]
    if let Some(replaced) = replaced {
        use std::os::unix::fs::{MetadataExt, fchown};
        let _ = fchown(file.as_file(), Some(replaced.uid()), Some(replaced.gid()));
    }
    Ok(file)
}

/// Writes a file through a temporary file in the same folder: `write`, fsync, rename, fsync of the folder. After a crash at any moment, the
/// old file or the new one is there.
///
/// # Errors
/// As `beside`, and `Io` when it cannot be written.
pub(crate) fn replace(
    path: &Path,
    failed: fn(&Path, io::Error) -> Error,
    write: impl FnOnce(&mut std::fs::File) -> io::Result<()>,
) -> Result<()> {
    let mut file = beside(path, failed)?;
    let whole = fault::file("write").and_then(|()| write(file.as_file_mut())).and_then(|()| fault::file("sync"));
    whole.and_then(|()| file.as_file().sync_all()).and_then(|()| fault::file("rename")).map_err(|e| Error::write(path, e))?;
    file.persist(path).map_err(|e| Error::write(path, e.error))?;
    sync_folder(folder_of(path)).map_err(|e| Error::write(path, e))
}

/// Writes these bytes with `replace`.
///
/// # Errors
/// As `replace`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, Error::write, |file| file.write_all(bytes))
}

/// True if two paths name one file, whatever they look like; for files that do not exist yet, if they would.
#[cfg(feature = "cli")]
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (a.metadata(), b.metadata()) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    let place = |path: &Path| path.canonicalize().ok().or_else(|| Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?)));
    place(a).is_some_and(|a| Some(a) == place(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_is_replaced_is_a_file_and_keeps_its_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link): (&Path, &Path) = (&folder.path().join("a"), &folder.path().join("b"));
        std::fs::write(path, "old").unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        beside(path, Error::create).unwrap().persist(path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        symlink(path, link).unwrap();
        for other in [link, folder.path(), Path::new("/dev/null")] {
            assert_eq!(beside(other, Error::create).unwrap_err().exit_code(), 73, "{}", other.display());
        }
    }

    #[cfg(all(unix, feature = "cli"))]
    #[test]
    fn a_file_is_the_same_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link, new) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("new"));
        std::fs::write(&path, "old").unwrap();
        std::fs::hard_link(&path, &link).unwrap();
        assert!(same(&path, &link) && !same(&path, folder.path()));
        assert!(same(&new, &folder.path().join(".").join("new")) && !same(&new, &path));
    }

    #[test]
    fn only_regular_files_of_a_bounded_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, b"caf\xe9").unwrap();
        assert_eq!(text(&path, 4).unwrap(), "caf\u{fffd}");
        assert_eq!(bytes(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(bytes(folder.path(), 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(bytes(&folder.path().join("none"), 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
