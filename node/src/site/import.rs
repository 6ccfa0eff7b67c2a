//! Extensions with known passwords added to a site in force, from a CSV file.
//!
//! An import changes no text: what it adds is kept in [`Site::imported`] and stays when
//! another text is applied. An extension that the text writes too belongs to the text; an
//! import may then change its password, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use strowger_core::ids::Extension;
use strowger_core::site::{ExtensionSpec, Site, Target};

use super::{read, users};
use crate::document::At;
use crate::fault::{Fault, code};
use crate::limits;

/// A site with what was imported.
#[derive(Clone, Debug)]
pub struct Import {
    /// The site.
    pub site: Site,
    /// Passwords by extension, as the file gives them.
    pub passwords: BTreeMap<Extension, String>,
    /// Extensions that are new.
    pub added: BTreeSet<Extension>,
    /// Extensions that an earlier import brought and this one leaves out.
    pub removed: BTreeSet<Extension>,
}

/// Adds the extensions of a CSV file to `site`; with `replace`, what earlier imports brought
/// and this file leaves out is taken out.
///
/// # Errors
/// The first mistake found, with the file's line; nothing is imported then.
pub fn import(site: &Site, file: &str, bytes: &[u8], replace: bool) -> Result<Import, Fault> {
    let users = users::read(file, bytes)?;
    let wrong = |what: String, next: &str, place: &str| {
        Err(Fault::new(code::SITE_CSV, what, next).at(place.to_owned()))
    };
    let mut made = Import {
        site: site.clone(),
        passwords: BTreeMap::new(),
        added: BTreeSet::new(),
        removed: BTreeSet::new(),
    };
    for user in users {
        let place = user.place;
        if made.passwords.len() >= limits::EXTENSION_IMPORT_ROWS_MAX {
            let what = format!("more than {} extensions", limits::EXTENSION_IMPORT_ROWS_MAX);
            return wrong(what, "import the rest from another file", &place);
        }
        if let Err(why) = read::check_name(&user.extension) {
            let next = "use letters, digits and . - _ + * #";
            return wrong(why, next, &place);
        }
        let extension = Extension::from(user.extension.as_str());
        match made.site.extensions.get(&extension) {
            Some(spec) if spec.contact.is_some() => {
                let what = format!("extension {extension} is a fixed device without a password");
                return wrong(what, "leave it out", &place);
            }
            Some(_) => {}
            None if made.site.numbers.contains_key(extension.as_str()) => {
                let what = format!("{extension} is a number of the site");
                return wrong(what, "use another extension", &place);
            }
            None => {
                if made.site.extensions.len() >= limits::EXTENSIONS_MAX {
                    let next = format!("use at most {}", limits::EXTENSIONS_MAX);
                    return wrong("too many extensions".to_owned(), &next, &place);
                }
                let spec = ExtensionSpec {
                    contact: None,
                    qualify_s: None,
                };
                made.site.extensions.insert(extension.clone(), spec);
                made.site.imported.insert(extension.clone());
                made.added.insert(extension.clone());
            }
        }
        let again = made.passwords.insert(extension.clone(), user.password);
        if again.is_some() {
            let what = format!("extension {extension} comes twice");
            return wrong(what, "remove one of the lines", &place);
        }
    }
    if replace {
        made.take_out_the_rest(file)?;
    }
    Ok(made)
}

impl Import {
    fn take_out_the_rest(&mut self, file: &str) -> Result<(), Fault> {
        let imported = self.site.imported.iter();
        let rest: BTreeSet<Extension> = imported
            .filter(|one| !self.passwords.contains_key(*one))
            .cloned()
            .collect();
        for extension in &rest {
            if let Some(user) = user_of(&self.site, extension) {
                let what = format!("extension {extension} is left out, but {user} uses it");
                let next = "keep it in the file, or apply a site that does not name it first";
                return Err(Fault::new(code::SITE_REFERENCE, what, next).at(file.to_owned()));
            }
            self.site.extensions.remove(extension);
            self.site.imported.remove(extension);
        }
        self.removed = rest;
        Ok(())
    }
}

/// Who names an extension in a site.
fn user_of(site: &Site, extension: &Extension) -> Option<String> {
    let agent = site
        .agents
        .iter()
        .find(|(_, spec)| spec.extension.as_ref() == Some(extension))
        .map(|(id, _)| format!("agent {id}"));
    let target = Target::Extension(extension.clone());
    agent.or_else(|| {
        let mut numbers = site.numbers.iter();
        let number = numbers.find(|(_, spec)| spec.target == target);
        number.map(|(number, _)| format!("number {number}"))
    })
}

/// Keeps in `site` what was imported into `current` and stands in no text. What the text
/// of `site` writes is the text's.
///
/// # Errors
/// A [`Fault`] when an imported extension is now a number of the site.
pub fn carry_over(site: &mut Site, imported: &BTreeSet<Extension>) -> Result<(), Fault> {
    for extension in imported {
        if site.extensions.contains_key(extension) {
            continue;
        }
        if site.numbers.contains_key(extension.as_str()) {
            return Err(number_taken(extension.as_str()));
        }
        let spec = ExtensionSpec {
            contact: None,
            qualify_s: None,
        };
        site.extensions.insert(extension.clone(), spec);
        site.imported.insert(extension.clone());
    }
    Ok(())
}

fn number_taken(number: &str) -> Fault {
    let what = format!("number {number} is an imported extension");
    let next = "use another number, or take it out with `strowger extension import --replace`";
    Fault::new(code::SITE_DUPLICATE, what, next)
}

/// A number written where an imported extension is.
pub(super) fn check_number(number: &At<String>, imported: &BTreeSet<Extension>) -> Option<Fault> {
    imported
        .contains(&Extension::from(number.value.as_str()))
        .then(|| number_taken(&number.value).at(number.place.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "[cluster]\nservice_addresses = [\"127.0.0.1\"]\n[tenant]\n\
        name = \"demo\"\ndomain = \"demo.invalid\"\ndigest = [\"MD5\"]\n\
        [[extension]]\nrange = \"1001-1003\"\n\
        [[extension]]\nrange = \"b1\"\ncontact = \"sip:{id}@127.0.0.60\"\n\
        [[queue]]\nname = \"main\"\n[[number]]\nnumber = \"4008\"\ntarget = \"queue:main\"\n";

    fn site() -> Site {
        let read = super::super::read("site.toml", SITE, &BTreeMap::new());
        read.expect("valid").site
    }

    fn names(set: &BTreeSet<Extension>) -> Vec<&str> {
        set.iter().map(Extension::as_str).collect()
    }

    #[test]
    fn new_ones_are_added_and_those_of_the_text_stay_its_own() {
        let csv = b"extension,password\n5001,a\n1002,b\n";
        let made = import(&site(), "u.csv", csv, false).expect("valid");
        assert_eq!(names(&made.added), ["5001"]);
        assert_eq!(names(&made.site.imported), ["5001"]);
        assert_eq!(made.passwords.len(), 2);
        assert_eq!(made.site.extensions.len(), 5);
        let more = import(&made.site, "u.csv", b"extension,password\n5002,c\n", false);
        let more = more.expect("valid");
        assert_eq!(names(&more.site.imported), ["5001", "5002"]);
        let fewer = import(&more.site, "u.csv", b"extension,password\n5002,c\n", true);
        let fewer = fewer.expect("valid");
        assert_eq!(names(&fewer.removed), ["5001"]);
        assert_eq!(names(&fewer.site.imported), ["5002"]);
        assert_eq!(fewer.site.extensions.len(), 5, "the text's stay");
    }

    #[test]
    fn each_mistake_names_its_line_and_imports_nothing() {
        let table = [
            ("5001,a\n5002\n", "u.csv:3", "two fields"),
            ("5001,a\n5001,b\n", "u.csv:3", "twice"),
            ("b1,a\n", "u.csv:2", "fixed device"),
            ("5001,a\n4008,b\n", "u.csv:3", "number of the site"),
            ("5 1,a\n", "u.csv:2", "not a name"),
        ];
        for (rows, place, words) in table {
            let csv = format!("extension,password\n{rows}");
            let fault = import(&site(), "u.csv", csv.as_bytes(), false).expect_err(words);
            assert_eq!(fault.place.as_deref(), Some(place), "{fault}");
            assert_eq!(&*fault.code, code::SITE_CSV);
            assert!(fault.to_string().contains(words), "{fault}");
        }
        let mut many = String::from("extension,password\n");
        for n in 0..=limits::EXTENSION_IMPORT_ROWS_MAX {
            many += &format!("x{n},a\n");
        }
        assert!(import(&site(), "u.csv", many.as_bytes(), false).is_err());
    }

    #[test]
    fn another_text_keeps_and_may_name_what_was_imported() {
        let csv = b"extension,password\n5001,a\n5002,b\n";
        let made = import(&site(), "u.csv", csv, false).expect("valid");
        let imported = &made.site.imported;
        let apply =
            |text: &str| super::super::read_with("site.toml", text, &BTreeMap::new(), imported);
        let agent = "[[agent]]\nid = \"a1\"\nextension = \"5001\"\nqueues = [\"main\"]\n";
        let named = apply(&format!("{SITE}{agent}")).expect("valid");
        assert_eq!(names(&named.site.imported), ["5001", "5002"]);
        assert!(named.generated.contains(&Extension::from("5001")));
        let left_out = import(&named.site, "u.csv", b"extension,password\n5002,b\n", true);
        let fault = left_out.expect_err("an agent works there");
        assert!(fault.to_string().contains("agent a1"), "{fault}");
        let written = apply(&SITE.replace("1001-1003", "5001-5001")).expect("valid");
        assert_eq!(names(&written.site.imported), ["5002"], "now the text's");
        let taken = apply(&SITE.replace("4008", "5002")).expect_err("taken");
        assert_eq!(&*taken.code, code::SITE_DUPLICATE);
        let line = SITE.lines().position(|line| line.starts_with("number"));
        let place = line.map(|line| format!("site.toml:{}", line + 1));
        assert_eq!(taken.place, place);
    }
}
