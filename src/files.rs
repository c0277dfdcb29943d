//! Reading small files whole: no pipe that nobody writes to, no device without an end.

use std::io::{self, Read};
use std::path::Path;

/// The most that is read of a run file, a report or a picture.
pub const SMALL: u64 = 16 << 20;

/// The most that is read of a log or of metrics.
pub const LARGE: u64 = 4 << 30;

/// The bytes of a regular file of at most so many.
///
/// # Errors
/// Those of opening and reading; `InvalidInput` for what is no regular file, `FileTooLarge` for a longer one.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
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

/// The text of a regular file of at most so many bytes. What is no UTF-8 in it stands as U+FFFD.
///
/// # Errors
/// As `bytes`.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    bytes(path, most).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
