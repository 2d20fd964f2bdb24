//! Whether this machine's clock is right: by what the answers of others say (`Date`, RFC 9110,
//! 6.6.1).

use http::HeaderMap;
use http::header::DATE;
use skerry_remote::http::Request;

use skerry_remote::inspect as probe;

use super::{Finding, Origin, PATIENCE, Tools, names};

const CHECK: &str = "clock";
/// So much says nothing: the header knows whole seconds, and answers take their time; in ms.
const NOTHING_MS: u64 = 5_000;
/// From here on certificates, tokens and one's own messages suffer; in ms.
const MUCH_MS: u64 = 60_000;

/// What an answer said about the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Who said it.
    pub(crate) host: String,
    /// When that was, by their clock, in ms since the epoch.
    pub(crate) theirs_ms: u64,
    /// The same by ours.
    pub(crate) ours_ms: u64,
    /// Whether that was this machine itself.
    pub(crate) here: bool,
}

/// What an answer that came just now says.
pub(super) fn told(host: &str, headers: &HeaderMap, here: bool) -> Option<Told> {
    let theirs_ms = date(headers.get(DATE)?.to_str().ok()?)?;
    Some(Told {
        host: host.to_owned(),
        theirs_ms,
        ours_ms: skerry_core::Clock::now_ms(&crate::SystemClock),
        here,
    })
}

/// Asks `time_from` if there is one, and judges.
pub(super) async fn look(tools: &Tools, time_from: Option<&str>, mut dates: Vec<Told>) -> Finding {
    if let Some(url) = time_from {
        let asked = Request::get(url).trusted().timeout(PATIENCE);
        let answer = match tools.client.send(asked).await {
            Ok(answer) => answer,
            Err(error) => {
                let advice = "name another with --time-from";
                return Finding::unknown(CHECK, format!("{url}: {error}"), advice);
            }
        };
        dates = told(url, &answer.headers, is_this_machine(tools, url).await)
            .into_iter()
            .collect();
    }
    judge(&dates)
}

async fn is_this_machine(tools: &Tools, url: &str) -> bool {
    let Some(origin) = Origin::of(url) else {
        return false;
    };
    let found = names::addresses(tools, &origin.host).await;
    let Some(address) = found.ok().and_then(|found| found.first().copied()) else {
        return false;
    };
    let seen = probe::look((address, origin.port).into(), None).await;
    seen.is_ok_and(|seen| seen.here)
}

/// Judges by the clock that differs least from ours, of those that are not ours.
pub(crate) fn judge(dates: &[Told]) -> Finding {
    let others = dates.iter().filter(|told| !told.here);
    let Some(told) = others.min_by_key(|told| told.theirs_ms.abs_diff(told.ours_ms)) else {
        let what = "no other machine answered that would tell the time";
        let advice = "name one with --time-from https://..; timedatectl says whether the clock \
                      is kept right";
        return Finding::unknown(CHECK, what, advice);
    };
    let apart = told.theirs_ms.abs_diff(told.ours_ms);
    let host = &told.host;
    if apart <= NOTHING_MS {
        let what = format!("it agrees with the answer of {host}");
        return Finding::ok(CHECK, what);
    }
    let way = if told.ours_ms > told.theirs_ms {
        "ahead of"
    } else {
        "behind"
    };
    let what = format!("it is {} s {way} that of {host}", apart / 1000);
    let advice = "have the clock kept right (timedatectl set-ntp true)";
    if apart <= MUCH_MS {
        Finding::warn(CHECK, what, advice)
    } else {
        Finding::wrong(CHECK, what, advice)
    }
}

/// The time of a `Date` header, such as `Sun, 06 Nov 1994 08:49:37 GMT`, in ms since the epoch.
pub(crate) fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_ascii_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let fits = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if words.next()? != "GMT" || !fits || !(1970..10_000).contains(&year) {
        return None;
    }
    // Years from March, so that the day that is sometimes missing is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000)
}
