//! The site file: from TOML, WAV and CSV to a validated [`Site`] that can be applied
//! without a further question.
//!
//! Every error names file and line. Passwords leave this module only in [`SiteRead`];
//! nothing here seals, stores or applies anything.

mod comfort;
mod crm;
pub mod diff;
mod floor;
pub mod hours;
pub mod import;
pub mod range;
mod read;
mod trunk;
pub mod users;

use std::collections::{BTreeMap, BTreeSet};

use strowger_core::ids::{BlobId, Extension};
use strowger_core::site::{DigestAlgorithm, Site};

use crate::document::{Codes, Section, Source};
use crate::fault::{Fault, code};
use crate::limits;

/// A site as read from its files.
#[derive(Clone, Debug)]
pub struct SiteRead {
    /// The validated site.
    pub site: Site,
    /// Its text.
    pub text: String,
    /// Passwords named by CSV files.
    pub passwords: BTreeMap<Extension, String>,
    /// Extensions that need a generated password, unless they have a secret already.
    pub generated: BTreeSet<Extension>,
    /// Sound files by content.
    pub blobs: BTreeMap<BlobId, Vec<u8>>,
}

const CODES: Codes = Codes {
    syntax: code::SITE_SYNTAX,
    unknown: code::SITE_UNKNOWN_KEY,
    value: code::SITE_VALUE,
};

/// Reads a site. `file` is its name for messages; `attachments` are the files it
/// names, by the path written in it.
///
/// # Errors
/// The first mistake found, with file and line.
pub fn read(
    file: &str,
    text: &str,
    attachments: &BTreeMap<String, Vec<u8>>,
) -> Result<SiteRead, Fault> {
    read_with(file, text, attachments, &BTreeSet::new())
}

/// As [`read`], for an exchange into which these extensions were imported: they stay, and the
/// text may name them.
///
/// # Errors
/// The first mistake found, with file and line.
pub fn read_with(
    file: &str,
    text: &str,
    attachments: &BTreeMap<String, Vec<u8>>,
    imported: &BTreeSet<Extension>,
) -> Result<SiteRead, Fault> {
    if text.len() > limits::SITE_TEXT_BYTES_MAX {
        let what = format!("the text has {} bytes", text.len());
        let next = format!("use at most {}", limits::SITE_TEXT_BYTES_MAX);
        return Err(Fault::new(code::SITE_VALUE, what, next).at(file));
    }
    let source = Source::new(file, text, CODES, &[]);
    let parsed = source.parse()?;
    let root = Section::new(&source, "the site file", Some(parsed.get_ref()), 0);
    let mut read = read::Reading::new(root, attachments)?.all(imported)?;
    read.text = text.to_owned();
    Ok(read)
}

/// The name of a digest algorithm in site files and challenges (RFC 8760 §2.1).
pub fn digest_name(algorithm: DigestAlgorithm) -> &'static str {
    match algorithm {
        DigestAlgorithm::Md5 => "MD5",
        DigestAlgorithm::Sha256 => "SHA-256",
    }
}

#[cfg(test)]
mod hours_tests;
#[cfg(test)]
mod tests;
