//! Reading the sections of a site file in the order of their references: what is
//! named must have been read before it is referred to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use strowger_core::ids::{BlobId, Extension, QueueName, TenantId, TrunkName};
use strowger_core::site::{
    DigestAlgorithm, ExtensionSpec, NumberSpec, Numbering, RouteSpec, Site, TakeoverMode, Target,
    TrunkSpec,
};

use super::floor::Named;
use super::{SiteRead, crm, hours, import, range, trunk, users};
use crate::document::{At, Section, nearest};
use crate::fault::{Fault, code};
use crate::limits;

pub(super) type Part<'d, 't> = Section<'d, 't>;

/// A site being read.
pub(super) struct Reading<'d, 't, 'a> {
    root: Part<'d, 't>,
    attachments: &'a BTreeMap<String, Vec<u8>>,
    read: SiteRead,
}

impl<'d, 't, 'a> Reading<'d, 't, 'a> {
    /// Reads `[cluster]` and `[tenant]`.
    pub(super) fn new(
        mut root: Part<'d, 't>,
        attachments: &'a BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, Fault> {
        let (service_addresses, takeover) = cluster(&mut root)?;
        let (tenant, domain, digest, timezone, numbering) = tenant(&mut root)?;
        let site = Site {
            tenant,
            domain,
            digest,
            timezone,
            numbering,
            tiers: BTreeMap::new(),
            service_addresses,
            takeover,
            extensions: BTreeMap::new(),
            imported: BTreeSet::new(),
            numbers: BTreeMap::new(),
            queues: BTreeMap::new(),
            agents: BTreeMap::new(),
            pauses: Vec::new(),
            hours: BTreeMap::new(),
            trunks: BTreeMap::new(),
            routes: Vec::new(),
            blobs: BTreeMap::new(),
        };
        let read = SiteRead {
            site,
            text: String::new(),
            passwords: BTreeMap::new(),
            generated: BTreeSet::new(),
            blobs: BTreeMap::new(),
        };
        Ok(Self {
            root,
            attachments,
            read,
        })
    }

    /// Reads everything else. A misspelt section is told before what it leaves unknown.
    pub(super) fn all(mut self, imported: &BTreeSet<Extension>) -> Result<SiteRead, Fault> {
        let extensions = self.parts("extension")?;
        let queues = self.parts("queue")?;
        let numbers = self.parts("number")?;
        let agents = self.parts("agent")?;
        let skills = self.parts("skill")?;
        let teams = self.parts("team")?;
        let pauses = self.parts("pause")?;
        let trunks = self.parts("trunk")?;
        let routes = self.parts("route")?;
        let tiers = self.parts("tier")?;
        let hours = self.parts("hours")?;
        let holidays = self.parts("holiday")?;
        self.root.finish()?;
        self.read.site.tiers = crm::tiers(tiers)?;
        let mut rest = Rest {
            attachments: self.attachments,
            sounds: BTreeMap::new(),
            read: self.read,
            named: Named::default(),
            ways: Vec::new(),
            hours_at: Vec::new(),
        };
        extensions
            .into_iter()
            .try_for_each(|part| rest.extension(part))?;
        import::carry_over(&mut rest.read.site, imported)?;
        // They have passwords; only another domain voids these.
        let kept = rest.read.site.imported.iter().cloned();
        rest.read.generated.extend(kept);
        skills.into_iter().try_for_each(|part| rest.skill(part))?;
        teams.into_iter().try_for_each(|part| rest.team(part))?;
        pauses.into_iter().try_for_each(|part| rest.pause(part))?;
        hours.into_iter().try_for_each(|part| rest.hours(part))?;
        holidays
            .into_iter()
            .try_for_each(|part| rest.holiday(part))?;
        rest.hours_open()?;
        queues.into_iter().try_for_each(|part| rest.queue(part))?;
        numbers.into_iter().try_for_each(|part| rest.number(part))?;
        agents.into_iter().try_for_each(|part| rest.agent(part))?;
        rest.named_by_queues()?;
        rest.ways_lead_somewhere()?;
        trunks.into_iter().try_for_each(|part| rest.trunk(part))?;
        routes.into_iter().try_for_each(|part| rest.route(part))?;
        // Longest prefix first, as the look-up wants it; equal lengths in text order.
        let routes = &mut rest.read.site.routes;
        routes.sort_by(|a, b| {
            b.prefix
                .len()
                .cmp(&a.prefix.len())
                .then_with(|| a.prefix.cmp(&b.prefix))
        });
        Ok(rest.read)
    }

    fn parts(&mut self, key: &'static str) -> Result<Vec<Part<'d, 't>>, Fault> {
        let place = self.root.place();
        let parts = self.root.sections(key)?;
        if parts.len() > limits::ENTRIES_MAX {
            let what = format!("{} entries [[{key}]]", parts.len());
            let next = format!("use at most {}", limits::ENTRIES_MAX);
            return Err(Fault::new(code::SITE_VALUE, what, next).at(place));
        }
        Ok(parts)
    }
}

/// What is read once all sections are known.
pub(super) struct Rest<'a> {
    attachments: &'a BTreeMap<String, Vec<u8>>,
    /// Sounds already read, with their lengths in ms, by path.
    sounds: BTreeMap<String, (BlobId, u64)>,
    pub(super) read: SiteRead,
    /// Names whose meaning is known only when everything has been read.
    pub(super) named: Named,
    /// Queues that ways out of others lead to.
    pub(super) ways: Vec<At<String>>,
    /// Where opening hours are written.
    pub(super) hours_at: Vec<At<String>>,
}

impl<'a> Rest<'a> {
    fn extension(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let range = part.text("range")?;
        let file = part.text("file")?;
        let contact = part.text("contact")?;
        let qualify_s = part
            .number("qualify_s", 0..=3_600)?
            .map(|number| u32::try_from(number.value).unwrap_or(0));
        let place = part.place();
        part.finish()?;
        match (range, file) {
            (Some(range), None) => {
                for name in names(&range)? {
                    let contact = contact_of(contact.as_ref(), &name)?;
                    let generated = contact.is_none();
                    let name = At {
                        value: name,
                        place: range.place.clone(),
                    };
                    let extension =
                        self.add_extension(&name, ExtensionSpec { contact, qualify_s })?;
                    if generated {
                        self.read.generated.insert(extension);
                    }
                }
                Ok(())
            }
            (None, Some(file)) => {
                for user in users::read(&file.value, self.attachment(&file)?)? {
                    let name = At {
                        value: user.extension,
                        place: user.place,
                    };
                    let contact = contact_of(contact.as_ref(), &name.value)?;
                    let extension =
                        self.add_extension(&name, ExtensionSpec { contact, qualify_s })?;
                    self.read.passwords.insert(extension, user.password);
                }
                Ok(())
            }
            _ => Err(Fault::new(
                code::SITE_VALUE,
                "[[extension]] needs either `range` or `file`",
                "write range = \"1001-1020\" or file = \"users.csv\"",
            )
            .at(place)),
        }
    }

    fn add_extension(
        &mut self,
        name: &At<String>,
        spec: ExtensionSpec,
    ) -> Result<Extension, Fault> {
        if let Err(why) = check_name(&name.value) {
            // A bad name in a CSV line is an error of the CSV.
            let in_table = !name.place.is_empty() && name.place.contains(".csv:");
            let code = if in_table {
                code::SITE_CSV
            } else {
                code::SITE_VALUE
            };
            let next = "use letters, digits and . - _ + * #";
            return Err(Fault::new(code, why, next).at(name.place.clone()));
        }
        let extension = Extension::from(name.value.as_str());
        let extensions = &mut self.read.site.extensions;
        if extensions.len() >= limits::EXTENSIONS_MAX {
            let next = format!("use at most {}", limits::EXTENSIONS_MAX);
            let fault = Fault::new(code::SITE_VALUE, "too many extensions", next);
            return Err(fault.at(name.place.clone()));
        }
        if extensions.insert(extension.clone(), spec).is_some() {
            return Err(duplicate("extension", name));
        }
        Ok(extension)
    }

    fn number(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let number = named(&mut part, "number")?;
        let target = part.required("target")?;
        let public = part.flag("public")?.unwrap_or(false);
        let greeting = part.text("greeting")?;
        let hours = self.number_hours(&mut part)?;
        part.finish()?;
        let target = self.target(&target)?;
        let greeting = greeting.map(|greeting| self.sound(&greeting)).transpose()?;
        if let Some(fault) = import::check_number(&number, &self.read.site.imported) {
            return Err(fault);
        }
        let taken = self
            .read
            .site
            .extensions
            .contains_key(&Extension::from(&*number.value));
        let spec = NumberSpec {
            target,
            public,
            greeting,
            hours,
        };
        let known = self.read.site.numbers.insert(number.value.clone(), spec);
        if taken || known.is_some() {
            return Err(duplicate(
                if taken { "extension" } else { "number" },
                &number,
            ));
        }
        Ok(())
    }

    /// Where a number leads.
    pub(super) fn target(&self, text: &At<String>) -> Result<Target, Fault> {
        match text.value.split_once(':') {
            Some(("queue", name)) => Ok(Target::Queue(self.queue_named(name, &text.place)?)),
            Some(("extension", name)) => {
                let extension = self.extension_named(name, &text.place)?;
                Ok(Target::Extension(extension))
            }
            _ => {
                let next = "write queue:NAME or extension:NUMBER";
                Err(wrong(text, "a target", next))
            }
        }
    }

    fn trunk(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let name = named(&mut part, "name")?;
        let destinations = part.texts("destinations")?.unwrap_or_default();
        let sources = part.texts("sources")?.unwrap_or_default();
        let auth = part.text("auth")?;
        let channels = part
            .number("channels", 1..=100_000)?
            .map_or(30, |number| number.value);
        let cps = part
            .number("cps", 0..=limits::TRUNK_CPS_MAX)?
            .map_or(0, |number| number.value);
        let failover_ms = part
            .number("failover_s", 1..=4)?
            .map_or(3, |number| number.value)
            * 1_000;
        let caller_id = part.text("caller_id")?;
        let qualify_s = qualify(&mut part, 30)?;
        part.finish()?;
        if let Some(auth) = auth.filter(|auth| auth.value != "ip") {
            return Err(wrong(&auth, "a kind of authentication", "use \"ip\""));
        }
        let destinations = trunk::choices(&destinations, |text| {
            check_uri(text, true)?;
            Ok(text.value.clone())
        })?;
        let caller_id = caller_id.as_ref().map(trunk::caller_id).transpose()?;
        let sources = sources
            .iter()
            .map(|source| parsed(source, "a network such as \"192.0.2.0/24\""))
            .collect::<Result<_, _>>()?;
        let spec = TrunkSpec {
            destinations,
            sources,
            channels: u32::try_from(channels).unwrap_or(u32::MAX),
            cps: u32::try_from(cps).unwrap_or(u32::MAX),
            failover_ms,
            caller_id: caller_id.unwrap_or_default(),
            qualify_s,
        };
        let known = self
            .read
            .site
            .trunks
            .insert(TrunkName::from(name.value.as_str()), spec);
        known.map_or(Ok(()), |_| Err(duplicate("trunk", &name)))
    }

    fn route(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let prefix = part.required("prefix")?;
        let strip = part
            .number("strip", 0..=32)?
            .map_or(0, |number| number.value);
        let place = part.place();
        let (one, several) = (part.text("trunk")?, part.texts("trunks")?);
        part.finish()?;
        let trunks = match (one, several) {
            (Some(one), None) => vec![one],
            (None, Some(several)) if !several.is_empty() => several,
            _ => {
                let what = "[[route]] needs either `trunk` or `trunks`";
                let next = "write trunk = \"NAME\" or trunks = [\"NAME\", \"NAME\"]";
                return Err(Fault::new(code::SITE_VALUE, what, next).at(place));
            }
        };
        let digits = prefix
            .value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'+');
        if !digits || prefix.value.is_empty() || prefix.value.len() > limits::NAME_LETTERS_MAX {
            return Err(wrong(&prefix, "a prefix", "use digits"));
        }
        let known = self.read.site.trunks.keys().map(TrunkName::as_str);
        let trunks = trunk::choices(&trunks, |text| {
            referred("trunk", &text.value, &text.place, known.clone())?;
            Ok(TrunkName::from(text.value.as_str()))
        })?;
        if self
            .read
            .site
            .routes
            .iter()
            .any(|route| route.prefix == prefix.value)
        {
            return Err(duplicate("route", &prefix));
        }
        self.read.site.routes.push(RouteSpec {
            prefix: prefix.value,
            strip: usize::try_from(strip).unwrap_or(0),
            trunks,
        });
        Ok(())
    }

    pub(super) fn queue_named(&self, name: &str, place: &str) -> Result<QueueName, Fault> {
        referred(
            "queue",
            name,
            place,
            self.read.site.queues.keys().map(QueueName::as_str),
        )?;
        Ok(QueueName::from(name))
    }

    pub(super) fn extension_named(&self, name: &str, place: &str) -> Result<Extension, Fault> {
        let extension = Extension::from(name);
        if self.read.site.extensions.contains_key(&extension) {
            return Ok(extension);
        }
        let known = self.read.site.extensions.keys().map(Extension::as_str);
        referred("extension", name, place, known).map(|()| extension)
    }

    fn attachment(&self, path: &At<String>) -> Result<&'a [u8], Fault> {
        let fault = |what: String, next: &str| {
            Fault::new(code::SITE_ATTACHMENT, what, next).at(path.place.clone())
        };
        let bytes = self.attachments.get(&path.value).ok_or_else(|| {
            let next = "put the file beside the site file and upload both";
            fault(format!("the file \"{}\" is missing", path.value), next)
        })?;
        if bytes.len() > limits::SITE_ATTACHMENT_BYTES_MAX {
            let what = format!("the file \"{}\" has {} bytes", path.value, bytes.len());
            return Err(fault(what, "use at most 64 MiB"));
        }
        Ok(bytes)
    }

    /// A sound that may last so long at most.
    pub(super) fn short_sound(&mut self, path: &At<String>, most_ms: u64) -> Result<BlobId, Fault> {
        let (id, ms) = self.measured(path)?;
        if ms <= most_ms {
            return Ok(id);
        }
        let seconds = |ms: u64| format!("{}.{:03} s", ms / 1_000, ms % 1_000);
        let what = format!("the sound \"{}\" lasts {}", path.value, seconds(ms));
        let next = format!("use one of at most {}", seconds(most_ms));
        Err(Fault::new(code::SITE_SOUND, what, next).at(path.place.clone()))
    }

    pub(super) fn sound(&mut self, path: &At<String>) -> Result<BlobId, Fault> {
        self.measured(path).map(|(id, _)| id)
    }

    /// A sound with its length, ms.
    fn measured(&mut self, path: &At<String>) -> Result<(BlobId, u64), Fault> {
        if let Some(known) = self.sounds.get(&path.value) {
            return Ok(*known);
        }
        let bytes = self.attachment(path)?;
        let clip = strowger_media::Clip::from_wav(bytes).map_err(|error| {
            let what = format!("the sound \"{}\" cannot be played: {error}", path.value);
            let next = "use a WAV file with PCM 16 bit or G.711, such as 8 kHz mono";
            Fault::new(code::SITE_SOUND, what, next).at(path.place.clone())
        })?;
        let id = BlobId(*blake3::hash(bytes).as_bytes());
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.read.site.blobs.insert(id, size);
        self.read.blobs.insert(id, bytes.to_vec());
        let sound = (id, clip.duration_ms());
        self.sounds.insert(path.value.clone(), sound);
        Ok(sound)
    }
}

fn cluster(root: &mut Part<'_, '_>) -> Result<(Vec<IpAddr>, TakeoverMode), Fault> {
    let missing = |place: String| {
        let what = "the service addresses are missing";
        let next = "add [cluster] with service_addresses = [\"192.0.2.10\"]";
        Fault::new(code::SITE_VALUE, what, next).at(place)
    };
    let Some(mut part) = root.section("cluster")? else {
        return Err(missing(root.place()));
    };
    let texts = part.texts("service_addresses")?.unwrap_or_default();
    if texts.is_empty() {
        return Err(missing(part.place()));
    }
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for text in &texts {
        let address = parsed(text, "an IP address")?;
        if addresses.contains(&address) {
            return Err(duplicate("service address", text));
        }
        addresses.push(address);
    }
    let takeover = match part.text("takeover")? {
        None => TakeoverMode::Address,
        Some(text) => match text.value.as_str() {
            "address" => TakeoverMode::Address,
            "reinvite" => TakeoverMode::Reinvite,
            _ => {
                let next = "use \"address\" or \"reinvite\"";
                return Err(wrong(&text, "a kind of takeover", next));
            }
        },
    };
    part.finish()?;
    Ok((addresses, takeover))
}

type Tenant = (TenantId, String, Vec<DigestAlgorithm>, String, Numbering);

fn tenant(root: &mut Part<'_, '_>) -> Result<Tenant, Fault> {
    let Some(mut part) = root.section("tenant")? else {
        let next = "add [tenant] with name and domain";
        let fault = Fault::new(code::SITE_VALUE, "the tenant is missing", next);
        return Err(fault.at(root.place()));
    };
    let name = named(&mut part, "name")?;
    let domain = part.required("domain")?;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if domain.value.is_empty() || domain.value.len() > 253 || !domain.value.bytes().all(letters) {
        return Err(wrong(
            &domain,
            "a domain",
            "use a host name such as example.invalid",
        ));
    }
    let mut digest = Vec::new();
    let texts = part.texts("digest")?;
    for text in texts.iter().flatten() {
        let algorithm = match text.value.to_ascii_uppercase().as_str() {
            "MD5" => DigestAlgorithm::Md5,
            "SHA-256" => DigestAlgorithm::Sha256,
            _ => {
                return Err(wrong(
                    text,
                    "a digest algorithm",
                    "use \"SHA-256\" or \"MD5\"",
                ));
            }
        };
        if digest.contains(&algorithm) {
            return Err(duplicate("digest algorithm", text));
        }
        digest.push(algorithm);
    }
    if digest.is_empty() {
        digest = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
    }
    let timezone = match part.text("timezone")? {
        None => "UTC".to_owned(),
        Some(text) => hours::zone_named(text)?,
    };
    let numbering = crm::numbering(&mut part)?;
    part.finish()?;
    Ok((
        TenantId::from(name.value),
        domain.value.to_ascii_lowercase(),
        digest,
        timezone,
        numbering,
    ))
}

pub(super) fn qualify(part: &mut Part<'_, '_>, usual_s: u64) -> Result<u32, Fault> {
    let seconds = part
        .number("qualify_s", 0..=3_600)?
        .map_or(usual_s, |number| number.value);
    Ok(u32::try_from(seconds).unwrap_or(0))
}

pub(super) fn names(text: &At<String>) -> Result<Vec<String>, Fault> {
    range::names(&text.value).map_err(|why| {
        let what = format!("the range \"{}\" cannot be understood: {why}", text.value);
        let next = "write first-last, such as 1001-1020 or b000-b099";
        Fault::new(code::SITE_RANGE, what, next).at(text.place.clone())
    })
}

pub(super) fn named(part: &mut Part<'_, '_>, key: &'static str) -> Result<At<String>, Fault> {
    let name = part.required(key)?;
    checked(&name)?;
    Ok(name)
}

pub(super) fn checked(name: &At<String>) -> Result<(), Fault> {
    check_name(&name.value).map_err(|why| {
        let next = "use letters, digits and . - _ + * #";
        Fault::new(code::SITE_VALUE, why, next).at(name.place.clone())
    })
}

/// Names go into SIP URIs, metrics, rows and lists: letters of any script, digits and
/// a few signs that need no escaping.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let fits = name.chars().count() <= limits::NAME_LETTERS_MAX && !name.is_empty();
    let plain = name
        .chars()
        .all(|one| one.is_alphanumeric() || ".-_+*#".contains(one));
    if fits && plain {
        return Ok(());
    }
    Err(format!(
        "\"{name}\" is not a name of 1 to {} letters",
        limits::NAME_LETTERS_MAX
    ))
}

pub(super) fn contact_of(contact: Option<&At<String>>, id: &str) -> Result<Option<String>, Fault> {
    let Some(contact) = contact else {
        return Ok(None);
    };
    let value = contact.value.replace("{id}", id);
    check_uri(
        &At {
            value: value.clone(),
            place: contact.place.clone(),
        },
        false,
    )?;
    Ok(Some(value))
}

/// A SIP URI with an IP address, so that nothing has to be resolved while a call waits.
fn check_uri(text: &At<String>, host_only: bool) -> Result<(), Fault> {
    let rest = text.value.strip_prefix("sip:");
    let rest = rest.map(|rest| rest.split_once(';').map_or(rest, |(head, _)| head));
    let host = rest.and_then(|rest| match rest.rsplit_once('@') {
        Some(_) if host_only => None,
        Some((user, host)) => {
            let plain = user
                .chars()
                .all(|one| one.is_alphanumeric() || ".-_+*#".contains(one));
            (plain && !user.is_empty()).then_some(host)
        }
        None => Some(rest),
    });
    let fits = host.is_some_and(|host| {
        std::net::SocketAddr::from_str(host).is_ok()
            || IpAddr::from_str(host.trim_matches(['[', ']'])).is_ok()
    });
    if fits && text.value.len() <= 255 && !text.value.contains(char::is_whitespace) {
        return Ok(());
    }
    let next = if host_only {
        "write sip:ADDRESS:PORT, such as sip:192.0.2.50:5060"
    } else {
        "write sip:NAME@ADDRESS:PORT, such as sip:{id}@192.0.2.60:5060"
    };
    Err(wrong(text, "such a SIP URI", next))
}

fn parsed<T: FromStr>(text: &At<String>, wanted: &str) -> Result<T, Fault> {
    text.value
        .parse()
        .map_err(|_| wrong(text, wanted, "correct it"))
}

pub(super) fn wrong(text: &At<String>, wanted: &str, next: &str) -> Fault {
    let what = format!("\"{}\" is not {wanted}", text.value);
    Fault::new(code::SITE_VALUE, what, next).at(text.place.clone())
}

pub(super) fn duplicate(word: &str, name: &At<String>) -> Fault {
    let what = format!("{word} {} is there already", name.value);
    Fault::new(code::SITE_DUPLICATE, what, "remove one of them").at(name.place.clone())
}

pub(super) fn referred<'k>(
    word: &str,
    name: &str,
    place: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Result<(), Fault> {
    if known.clone().any(|one| one == name) {
        return Ok(());
    }
    let next = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add a [[{word}]] of this name"),
    };
    Err(Fault::new(
        code::SITE_REFERENCE,
        format!("unknown {word} `{name}`"),
        next,
    )
    .at(place))
}
