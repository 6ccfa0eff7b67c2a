//! Another time for the nodes of a cluster: their clock on the wall is ahead of this
//! machine's, while time passes as everywhere. A preloaded library answers for the system's
//! clock; nothing of the machine changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;

/// Only the clock on the wall is another one: what nodes measure stays true.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at)
{
    long failed = syscall(SYS_clock_gettime, clock, at);
    const char *ahead = getenv("CLOCK_AHEAD_S");
    if (failed == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    {
        char leapt[512];
        const char *folder = getenv("CLOCK_LEAPS");
        at->tv_sec += atol(ahead);
        if (folder && snprintf(leapt, sizeof leapt, "%s/%d", folder, (int)getpid()) > 0
            && access(leapt, F_OK) == 0)
            at->tv_sec += 3600;
    }
    return (int)failed;
}
"#;

/// A clock ahead of this machine's.
#[derive(Clone, Debug)]
pub struct Clock {
    library: PathBuf,
    ahead_s: u64,
}

/// A moment by the clock on the wall, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub s: u64,
}

impl Clock {
    /// A clock that shows `moment` now; its library is built in `folder`.
    ///
    /// # Panics
    /// Without a C compiler, or when the moment is past.
    pub fn showing(folder: &Path, moment: Moment) -> Self {
        Self::real(folder).moved_to(moment)
    }

    /// A clock that is right, until it leaps; its library is built in `folder`.
    ///
    /// # Panics
    /// Without a C compiler.
    pub fn real(folder: &Path) -> Self {
        let source = folder.join("clock.c");
        let library = folder.join("clock.so");
        std::fs::write(&source, SOURCE).expect("the folder is writable");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "a C compiler builds the clock"
        );
        Self {
            library,
            ahead_s: 0,
        }
    }

    /// The same clock, set to `moment`.
    pub fn moved_to(&self, moment: Moment) -> Self {
        let ahead_s = moment.s.checked_sub(Moment::real().s);
        Self {
            library: self.library.clone(),
            ahead_s: ahead_s.expect("a moment to come"),
        }
    }

    /// What this clock shows.
    pub fn now(&self) -> Moment {
        Moment {
            s: Moment::real().s + self.ahead_s,
        }
    }

    /// How long this clock takes until it shows `moment`.
    pub fn until(&self, moment: Moment) -> std::time::Duration {
        let at = UNIX_EPOCH + std::time::Duration::from_secs(moment.s - self.ahead_s);
        at.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// The variables that give a program this clock.
    pub fn environment(&self) -> [(String, String); 3] {
        let folder = self.library.parent().unwrap_or(Path::new("/"));
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("CLOCK_AHEAD_S", self.ahead_s.to_string()),
            ("CLOCK_LEAPS", folder.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// The clock of one running program leaps ahead by an hour.
    ///
    /// # Panics
    /// When the folder of the library cannot be written to.
    pub fn leap(&self, pid: Pid) {
        let leapt = self.library.with_file_name(pid.to_string());
        std::fs::write(leapt, "").expect("the folder is writable");
    }
}

impl Moment {
    /// What this machine's own clock shows.
    pub fn real() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            s: since.expect("after 1970").as_secs(),
        }
    }

    /// So many seconds later.
    pub fn plus(self, s: u64) -> Self {
        Self { s: self.s + s }
    }

    /// The whole minute at or after this moment.
    pub fn next_minute(self) -> Self {
        Self {
            s: self.s.div_ceil(60) * 60,
        }
    }

    /// Date and time as RFC 3339 has them, without the parts of a second: Gregorian, UTC.
    pub fn text(self) -> String {
        let (days, of_day) = (self.s / 86_400, self.s % 86_400);
        // Years begin in March here, so that the leap day is a year's last.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let march = (5 * day + 2) / 153;
        let day = day - (153 * march + 2) / 5 + 1;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            of_day / 3_600,
            of_day / 60 % 60,
            of_day % 60
        )
    }

    /// The date, such as `2027-06-04`.
    pub fn date(self) -> String {
        self.text()[..10].to_owned()
    }

    /// Hour and minute, such as `09:30`.
    pub fn minute(self) -> String {
        self.text()[11..16].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_the_system_tells_them() {
        for s in [0, 951_782_400, 1_790_000_000, 1_803_945_599, 4_107_542_400] {
            let told = Command::new("date")
                .args(["-u", "-d", &format!("@{s}"), "+%Y-%m-%dT%H:%M:%S"])
                .output()
                .expect("date runs");
            let told = String::from_utf8_lossy(&told.stdout);
            assert_eq!(Moment { s }.text(), told.trim());
        }
        assert_eq!(Moment { s: 61 }.next_minute(), Moment { s: 120 });
    }

    #[test]
    fn a_program_sees_the_other_clock() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let later = Moment::real().plus(40 * 86_400);
        let clock = Clock::showing(folder.path(), later);
        let told = Command::new("date")
            .args(["-u", "+%Y-%m-%d"])
            .envs(clock.environment())
            .output()
            .expect("date runs");
        let told = String::from_utf8_lossy(&told.stdout);
        assert!(
            [later, clock.now()]
                .map(Moment::date)
                .contains(&told.trim().to_owned())
        );
    }
}
