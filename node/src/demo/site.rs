//! The demonstration's site: the sample inside the program or a file of the operator's,
//! applied through the same interface that `strowger site apply` uses.
//!
//! What was applied is kept in the folder, so that it can be edited and applied again,
//! and so that a second start knows whether a site named on the command line is new.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strowger_core::api::{Problem, SiteChange, SiteUpload};
use strowger_core::ids::Extension;
use strowger_core::site::Target;

use super::folder::{Folder, write};
use super::http::{Api, AskError};
use crate::fault::{Exit, Fault, code};
use crate::limits;
use crate::site::{SiteRead, read};

const SAMPLE: &str = include_str!("../../demo/site.toml");
const SAMPLE_SOUNDS: [(&str, &[u8]); 2] = [
    ("hello.wav", include_bytes!("../../demo/hello.wav")),
    ("hold.wav", include_bytes!("../../demo/hold.wav")),
];
/// Keys whose value names a file.
const FILE_KEYS: [&str; 5] = ["greeting", "music", "advert", "agent_announcement", "file"];

/// A site with the files it names, checked.
#[derive(Debug)]
pub(super) struct DemoSite {
    /// Name for messages.
    file: String,
    text: String,
    attachments: BTreeMap<String, Vec<u8>>,
    /// What the text means.
    pub read: SiteRead,
}

impl DemoSite {
    /// The sample.
    ///
    /// # Errors
    /// `SW02xx` when the program was built with a wrong sample.
    pub(super) fn sample() -> Result<Self, Fault> {
        let sounds = SAMPLE_SOUNDS.iter();
        let attachments = sounds.map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        Self::of("site.toml", SAMPLE.to_owned(), attachments.collect())
    }

    /// A site file with the files it names, relative to it.
    ///
    /// # Errors
    /// `SW02xx` with file and line.
    pub(super) fn load(path: &Path) -> Result<Self, Fault> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            let next = "name a site file with --site";
            Fault::new(code::SITE_ATTACHMENT, error.to_string(), next).at(file.clone())
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut attachments = BTreeMap::new();
        for name in files_named(&text) {
            // One that is missing is reported with its line by the reading below.
            let path = folder.join(&name);
            let small = fs::metadata(&path)
                .is_ok_and(|found| found.len() <= limits::SITE_ATTACHMENT_BYTES_MAX as u64);
            if let (true, Ok(bytes)) = (small, fs::read(&path)) {
                attachments.insert(name, bytes);
            }
        }
        Self::of(&file, text, attachments)
    }

    fn of(file: &str, text: String, attachments: BTreeMap<String, Vec<u8>>) -> Result<Self, Fault> {
        let read = read(file, &text, &attachments)?;
        Ok(Self {
            file: file.to_owned(),
            text,
            attachments,
            read,
        })
    }

    /// Whether this is what the folder says was applied.
    pub(super) fn is_applied(&self, folder: &Folder) -> bool {
        let same = |path: PathBuf, bytes: &[u8]| fs::read(path).is_ok_and(|kept| kept == bytes);
        same(folder.site_file(), self.text.as_bytes())
            && self
                .attachments
                .iter()
                .all(|(name, bytes)| kept_as(folder, name).is_none_or(|path| same(path, bytes)))
    }

    /// Applies the site and keeps it and the passwords in the folder.
    ///
    /// # Errors
    /// The exchange's refusal, or `SW0501` when the folder cannot be written.
    pub(super) async fn apply(&self, api: &Api, folder: &Folder) -> Result<(), Fault> {
        let attachments = self.attachments.iter();
        let upload = SiteUpload {
            file: self.file.clone(),
            text: self.text.clone(),
            attachments: attachments
                .map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes)))
                .collect(),
            dry_run: false,
        };
        let patience = limits::REQUEST_TIMEOUT;
        let change: SiteChange = api
            .post("/v1/site", &upload, patience)
            .await
            .map_err(|error| self.refusal(error))?;
        let mut phones = folder.phones()?;
        let generated = change.generated.into_iter();
        phones.extend(generated.map(|made| (made.extension, made.password)));
        let known = self.read.passwords.iter();
        phones.extend(known.map(|(extension, word)| (extension.to_string(), word.clone())));
        let extensions = &self.read.site.extensions;
        phones.retain(|extension, _| extensions.contains_key(&Extension::from(extension.as_str())));
        folder.write_phones(&phones)?;
        for (name, bytes) in &self.attachments {
            if let Some(path) = kept_as(folder, name) {
                if let Some(parent) = path.parent() {
                    // A folder that cannot be made shows in the next line.
                    let _ = fs::create_dir_all(parent);
                }
                write(&path, bytes, 0o600)?;
            }
        }
        // Last: its presence says that all of the above is done.
        write(&folder.site_file(), self.text.as_bytes(), 0o644)
    }

    /// The numbers that lead to a queue.
    pub(super) fn queue_numbers(&self) -> Vec<String> {
        let numbers = self.read.site.numbers.iter();
        numbers
            .filter(|(_, number)| matches!(number.target, Target::Queue(_)))
            .map(|(number, _)| number.to_string())
            .collect()
    }

    fn refusal(&self, error: AskError) -> Fault {
        match error {
            AskError::Refused(_, problem) => refused(&problem),
            error => Fault::new(
                code::DEMO_SITE,
                error.to_string(),
                "look into the nodes' logs",
            ),
        }
        .at_unless_placed(&self.file)
    }
}

fn refused(problem: &Problem) -> Fault {
    let next = problem.next.as_deref().unwrap_or("correct the site file");
    let message = format!("{}: {}", problem.code, problem.what);
    let mut fault = Fault::of(code::DEMO_SITE, &message, next);
    fault.place.clone_from(&problem.place);
    fault.exit = Exit::InvalidFile;
    fault
}

impl Fault {
    fn at_unless_placed(self, place: &str) -> Self {
        if self.place.is_some() {
            return self;
        }
        self.at(place)
    }
}

/// Where the folder keeps a file the site names; `None` for a path that leads elsewhere,
/// or over a file of ours.
fn kept_as(folder: &Folder, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let first = path.components().next()?.as_os_str().to_str()?;
    let ours = ["site.toml", "phones.csv", "admin.token", "demo.lock"].contains(&first)
        || (first.starts_with('n') && first.len() == 2);
    (inside && !ours).then(|| folder.root().join(path))
}

/// The files a site's text names, as far as it can be read.
fn files_named(text: &str) -> Vec<String> {
    fn walk(value: &toml::Value, found: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    match value {
                        toml::Value::String(name) if FILE_KEYS.contains(&key.as_str()) => {
                            found.push(name.clone());
                        }
                        other => walk(other, found),
                    }
                }
            }
            toml::Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        walk(&toml::Value::Table(table), &mut found);
    }
    found.truncate(limits::SITE_ATTACHMENTS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use strowger_media::Clip;

    #[test]
    fn the_sample_is_a_valid_site_with_phones_to_spare() {
        let sample = DemoSite::sample().expect("valid");
        let site = &sample.read.site;
        assert_eq!(sample.queue_numbers(), ["4008"]);
        assert_eq!(
            (site.extensions.len(), site.service_addresses.len()),
            (20, 6)
        );
        assert_eq!(sample.read.generated.len(), 20);
        assert_eq!(sample.read.blobs.len(), 2);
        for agent in ["a1", "a2", "a3", "a4", "a5"] {
            assert!(
                site.agents
                    .contains_key(&strowger_core::ids::AgentId::from(agent)),
                "{agent}"
            );
        }
    }

    #[test]
    fn the_samples_sounds_play_and_the_music_has_no_seam() {
        for (name, bytes) in SAMPLE_SOUNDS {
            let clip = Clip::from_wav(bytes).expect(name);
            assert!((3_000..=10_000).contains(&clip.duration_ms()), "{name}");
            assert!(bytes.len() < 150_000, "{name}");
        }
        let music = Clip::from_wav(SAMPLE_SOUNDS[1].1).expect("music");
        let pcm = music.pcm();
        let step = |a: i16, b: i16| (i32::from(a) - i32::from(b)).abs();
        let seam = step(pcm[0], pcm[pcm.len() - 1]);
        let usual = pcm.windows(2).map(|two| step(two[0], two[1])).max();
        assert!(
            Some(seam) <= usual,
            "seam {seam}, elsewhere at most {usual:?}"
        );
    }

    #[test]
    fn a_site_of_ones_own_brings_its_files() {
        let dir = tempfile::tempdir().expect("folder");
        let text = SAMPLE.replace("\"hello.wav\"", "\"sounds/hi.wav\"");
        let path = dir.path().join("own.toml");
        fs::write(&path, &text).expect("write");
        fs::write(dir.path().join("hold.wav"), SAMPLE_SOUNDS[1].1).expect("write");
        let fault = DemoSite::load(&path).expect_err("hi.wav is missing");
        assert!(fault.to_string().contains("sounds/hi.wav"), "{fault}");
        assert!(fault.to_string().contains("own.toml:"), "{fault}");
        fs::create_dir(dir.path().join("sounds")).expect("folder");
        fs::write(dir.path().join("sounds/hi.wav"), SAMPLE_SOUNDS[0].1).expect("write");
        assert_eq!(DemoSite::load(&path).expect("whole").attachments.len(), 2);
    }

    #[test]
    fn only_plain_paths_are_kept_in_the_folder() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 3, false).expect("new");
        let kept = |name| kept_as(&folder, name).is_some();
        assert!(kept("hello.wav") && kept("sounds/hello.wav"));
        for elsewhere in ["../hello.wav", "/tmp/x.wav", "phones.csv", "n1/data/x", ""] {
            assert!(!kept(elsewhere), "{elsewhere}");
        }
    }
}
