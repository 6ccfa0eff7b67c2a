//! Netstrings (`5:hello,`), the framing of baresip's control port.

/// Longest netstring accepted.
const LENGTH_MAX: usize = 1 << 20;

/// Frames `text`.
pub fn encode(text: &str) -> Vec<u8> {
    format!("{}:{text},", text.len()).into_bytes()
}

/// Takes one complete netstring from the front of `buffer`, if there is one.
///
/// # Errors
/// Names what is wrong when the bytes cannot be the start of a netstring.
pub fn decode(buffer: &mut Vec<u8>) -> Result<Option<String>, String> {
    let Some(colon) = buffer.iter().position(|&byte| byte == b':') else {
        let digits = buffer.iter().all(u8::is_ascii_digit) && buffer.len() <= 7;
        return if digits {
            Ok(None)
        } else {
            Err("no length".to_owned())
        };
    };
    let length: usize = std::str::from_utf8(&buffer[..colon])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .filter(|&length| length <= LENGTH_MAX)
        .ok_or("bad length")?;
    let end = colon + 1 + length;
    match buffer.get(end) {
        None => Ok(None),
        Some(b',') => {
            let text = String::from_utf8_lossy(&buffer[colon + 1..end]).into_owned();
            buffer.drain(..=end);
            Ok(Some(text))
        }
        Some(_) => Err("no comma at the end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together() {
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in [encode("hello"), encode(""), encode("a:b,c")].concat() {
            buffer.push(byte);
            seen.extend(decode(&mut buffer).expect("well formed"));
        }
        assert_eq!(seen, ["hello", "", "a:b,c"]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["hello", "3:abcd", "99999999999:x", "-1:x"] {
            assert!(decode(&mut bad.as_bytes().to_vec()).is_err(), "{bad}");
        }
    }
}
