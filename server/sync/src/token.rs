//! Where a client stands: the opaque string a sync answers with and is asked from.

use std::fmt;

use skerry_core::Pos;

/// A place in everything that sync reports.
///
/// Durable changes are counted by `pos`. Typing and presence live in memory only, so their two
/// counters belong to one run of the server: under another `boot` number they say nothing, and all
/// that is typed or present now counts as new. The position itself stays good across restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// Everything up to this log position has been seen, but for messages to the device.
    pub pos: Pos,
    /// Messages to the device have been seen up to here: behind `pos` when more were waiting
    /// than go into one answer.
    pub to_device: Pos,
    /// Sticky events have been seen up to here: behind `pos` when more were waiting than go into
    /// one answer.
    pub sticky: Pos,
    /// The run of the server whose counters follow.
    pub boot: u64,
    /// Position of the last typing change seen, in that run.
    pub typing: u64,
    /// Position of the last presence change seen, in that run.
    pub presence: u64,
}

/// The string is no token that this server ever made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a sync token")]
pub struct BadToken;

impl Token {
    /// Longest string looked at.
    const BYTES_MAX: usize = 96;

    /// Reads a token. A bare position (`s123`) is accepted too: it is what paging through a room
    /// hands out, and means that no typing or presence has been seen.
    pub fn parse(text: &str) -> Result<Token, BadToken> {
        if text.len() > Self::BYTES_MAX {
            return Err(BadToken);
        }
        let mut parts = text.strip_prefix('s').ok_or(BadToken)?.split('_');
        let pos = Pos(number(parts.next())?);
        let Some(boot) = parts.next() else {
            return Token {
                pos,
                to_device: pos,
                sticky: pos,
                boot: 0,
                typing: 0,
                presence: 0,
            }
            .checked();
        };
        let boot = number(Some(boot))?;
        let (typing, presence) = (number(parts.next())?, number(parts.next())?);
        let mut behind = || match parts.next() {
            Some(behind) => number(Some(behind)).map(Pos),
            None => Ok(pos),
        };
        let (to_device, sticky) = (behind()?, behind()?);
        if parts.next().is_some() {
            return Err(BadToken);
        }
        Token {
            pos,
            to_device,
            sticky,
            boot,
            typing,
            presence,
        }
        .checked()
    }

    fn checked(self) -> Result<Token, BadToken> {
        let wrong = self.pos.is_stamp() || self.to_device > self.pos || self.sticky > self.pos;
        if wrong { Err(BadToken) } else { Ok(self) }
    }

    /// The typing counter as this run of the server may use it.
    pub(crate) fn typing_in(&self, boot: u64) -> Option<u64> {
        (self.boot == boot).then_some(self.typing)
    }

    /// The presence counter as this run of the server may use it.
    pub(crate) fn presence_in(&self, boot: u64) -> Option<u64> {
        (self.boot == boot).then_some(self.presence)
    }
}

/// One decimal number without sign, blanks or leading zeros.
fn number(text: Option<&str>) -> Result<u64, BadToken> {
    let text = text.ok_or(BadToken)?;
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() || !plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(BadToken);
    }
    text.parse().map_err(|_| BadToken)
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "s{}_{}_{}_{}",
            self.pos.0, self.boot, self.typing, self.presence
        )?;
        if self.to_device < self.pos || self.sticky < self.pos {
            write!(f, "_{}", self.to_device.0)?;
        }
        if self.sticky < self.pos {
            write!(f, "_{}", self.sticky.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let pos = Pos(72_594);
        let token = Token {
            pos,
            to_device: pos,
            sticky: pos,
            boot: 3,
            typing: 0,
            presence: 19,
        };
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
        assert_eq!(token.to_string(), "s72594_3_0_19");
        let token = Token {
            to_device: Pos(5),
            ..token
        };
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
        assert_eq!(token.to_string(), "s72594_3_0_19_5");
        let token = Token {
            to_device: pos,
            sticky: Pos(6),
            ..token
        };
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
        assert_eq!(token.to_string(), "s72594_3_0_19_72594_6");
    }

    #[test]
    fn a_bare_position_has_seen_no_ephemeral_events() {
        let token = Token::parse("s7").unwrap();
        assert_eq!((token.pos, token.typing_in(1)), (Pos(7), None));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let stamp = format!("s{}_0_0_0", Pos::STAMP_BASE);
        let long = format!("s{}", "1".repeat(100));
        for text in [
            "",
            "s",
            "1",
            "s-1",
            "s+1_0_0_0",
            "s01",
            "s1_",
            "s1_2",
            "s1_2_3",
            "s1_2_3_4_5",
            "s9_2_3_4_5_6_7",
            "s9_2_3_4_5_10",
            "s1_2_3_x",
            "s99999999999999999999",
            "t1_2_3_4",
            " s1",
            "s1 ",
            &stamp,
            &long,
        ] {
            assert_eq!(Token::parse(text), Err(BadToken), "{text:?}");
        }
    }
}
