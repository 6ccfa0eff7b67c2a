//! CSV files of extensions with known passwords: header `extension,password`, one
//! extension on each line. Errors name the CSV's own line.

use crate::fault::{Fault, code};
use crate::limits;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The extension.
    pub extension: String,
    /// Its password.
    pub password: String,
    /// `file:line`.
    pub place: String,
}

/// Reads the file.
///
/// # Errors
/// A [`Fault`] with the CSV's name and line.
pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<User>, Fault> {
    let at = |line: u64| format!("{file}:{line}");
    let wrong =
        |line: u64, what: &str, next: &str| Fault::new(code::SITE_CSV, what, next).at(at(line));
    // Windows line ends would count the next record's line from the carriage return.
    let bytes: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| *byte != b'\r')
        .collect();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.as_slice());
    let mut users = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut headed = false;
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let line = error.position().map_or(line, csv::Position::line);
                return Err(wrong(line, &error.to_string(), "write the file in UTF-8"));
            }
        }
        let line = record.position().map_or(line, csv::Position::line);
        let field = |place: usize| record.get(place).unwrap_or("").trim();
        let (extension, password) = (field(0).trim_start_matches('\u{feff}'), field(1));
        if !headed {
            if (extension, password) != ("extension", "password") {
                let next = "begin the file with the line extension,password";
                return Err(wrong(line, "the header is missing", next));
            }
            headed = true;
            continue;
        }
        if record.len() != 2 || password.is_empty() {
            return Err(wrong(line, "not two fields", "write extension,password"));
        }
        if password.chars().count() > limits::NAME_LETTERS_MAX
            || password.chars().any(char::is_control)
        {
            let next = "use up to 64 printable letters";
            return Err(wrong(line, "the password cannot be used", next));
        }
        if users.len() >= limits::EXTENSIONS_MAX {
            return Err(wrong(line, "too many extensions", "split the site"));
        }
        users.push(User {
            extension: extension.to_owned(),
            password: password.to_owned(),
            place: at(line),
        });
    }
    if !headed {
        return Err(wrong(
            1,
            "the file is empty",
            "begin it with the line extension,password",
        ));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_users() {
        let users = read("u.csv", b"extension,password\n1001,\"a,b\"\r\n1002,x\n").expect("valid");
        assert_eq!(users.len(), 2);
        assert_eq!(
            users.first().map(|user| user.password.as_str()),
            Some("a,b")
        );
        assert_eq!(
            users.get(1).map(|user| user.place.as_str()),
            Some("u.csv:3")
        );
    }

    #[test]
    fn each_mistake_names_its_line() {
        let table: [(&[u8], &str); 6] = [
            (b"", "u.csv:1"),
            (b"1001,x\n", "u.csv:1"),
            (b"extension,password\n1001,x\n1002\n", "u.csv:3"),
            (b"extension,password\n1001,\n", "u.csv:2"),
            (b"extension,password\n1001,a,b\n", "u.csv:2"),
            (b"extension,password\n1001,a\n1002,\xff\n", "u.csv:3"),
        ];
        for (bytes, place) in table {
            let fault = read("u.csv", bytes).expect_err(place);
            assert_eq!(
                (&*fault.code, fault.place.as_deref()),
                ("SW0209", Some(place))
            );
        }
    }
}
