//! The sites of such clusters: what most of them have, and what a test adds.

use std::net::SocketAddr;

/// Where calls go when a node dies.
#[derive(Clone, Copy, Debug)]
pub enum Takeover {
    /// With their service address, to whoever gets that.
    Address,
    /// To another node's address, of which their phones are told.
    Reinvite,
}

/// A site file in the making: extensions 1001 to 1030 register, with [`secret`]s.
#[derive(Clone, Debug)]
pub struct Site {
    text: String,
}

impl Site {
    /// A site served at these addresses.
    pub fn new(takeover: Takeover, services: impl IntoIterator<Item = SocketAddr>) -> Self {
        let services = services.into_iter();
        let services: Vec<String> = services.map(|at| format!("\"{}\"", at.ip())).collect();
        let takeover = match takeover {
            Takeover::Address => "address",
            Takeover::Reinvite => "reinvite",
        };
        Self {
            text: format!(
                "[cluster]\nservice_addresses = [{}]\ntakeover = \"{takeover}\"\n\n\
                 [tenant]\nname = \"apart\"\ndomain = \"apart.invalid\"\ndigest = [\"MD5\"]\n\n\
                 [[extension]]\nrange = \"1001-1030\"\n\n",
                services.join(", ")
            ),
        }
    }

    /// A site file that is there already.
    pub fn of(text: String) -> Self {
        Self { text }
    }

    /// Anything else, in the words of a site file.
    pub fn and(mut self, text: &str) -> Self {
        self.text += text;
        self.text += "\n";
        self
    }

    /// One device takes the calls of all these extensions (`3001-3099`).
    pub fn device(self, range: &str, at: SocketAddr) -> Self {
        self.and(&format!(
            "[[extension]]\nrange = \"{range}\"\ncontact = \"sip:{{id}}@{at}\"\nqualify_s = 0\n"
        ))
    }

    /// A queue with music; an agent rests for `wrap_s`, and is paused after so many missed
    /// offers (0: never).
    pub fn queue(self, name: &str, wrap_s: u32, missed_max: u32) -> Self {
        self.and(&format!(
            "[[queue]]\nname = \"{name}\"\nstrategy = \"longest-idle\"\nring_s = 10\n\
             wrap_s = {wrap_s}\nmissed_max = {missed_max}\nmusic = \"hold.wav\"\n"
        ))
    }

    /// Anybody may call the queue at this number, and is greeted.
    pub fn number(self, number: &str, queue: &str) -> Self {
        self.and(&format!(
            "[[number]]\nnumber = \"{number}\"\ntarget = \"queue:{queue}\"\npublic = true\n\
             greeting = \"hello.wav\"\n"
        ))
    }

    /// An agent of the queue at an extension.
    pub fn agent(self, id: &str, extension: &str, queue: &str) -> Self {
        self.and(&format!(
            "[[agent]]\nid = \"{id}\"\nextension = \"{extension}\"\nqueues = [\"{queue}\"]\n"
        ))
    }

    /// Agents of the queue (`s001-s006`) at one device.
    pub fn agents(self, range: &str, at: SocketAddr, queue: &str, signed_in: bool) -> Self {
        self.and(&format!(
            "[[agent]]\nrange = \"{range}\"\ncontact = \"sip:{{id}}@{at}\"\n\
             queues = [\"{queue}\"]\nsigned_in = {signed_in}\nqualify_s = 0\n"
        ))
    }

    /// Callers of 4008 wait in `main` for agent a1 at 1001.
    pub fn with_one_agent(self) -> Self {
        self.number("4008", "main")
            .queue("main", 1, 3)
            .agent("a1", "1001", "main")
    }

    /// The file.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The password of an extension.
pub fn secret(extension: &str) -> String {
    format!("secret-{extension}")
}

/// The passwords of all extensions that register, for `strowger extension import`.
pub fn passwords() -> String {
    let rows = (1_001..=1_030)
        .map(|extension: u32| format!("{extension},{}\n", secret(&extension.to_string())));
    std::iter::once("extension,password\n".to_owned())
        .chain(rows)
        .collect()
}
