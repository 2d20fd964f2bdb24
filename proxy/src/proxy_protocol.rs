//! The PROXY protocol, versions 1 and 2: a proxy that passes bytes on says first for whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;
/// The longest rest of version 2, in bytes: addresses, and notes that are passed over.
const MAX_REST: usize = 4096;

/// Reads the header and nothing behind it. `None` is a connection that the proxy made for
/// itself, or for somebody whose address it does not know.
///
/// # Errors
/// What is not the PROXY protocol, in a few words; the connection cannot be used then.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, &'static str> {
    let mut start = [0; 12];
    stream
        .read_exact(&mut start)
        .await
        .map_err(|_| "it ended too early")?;
    if &start == SIGNATURE {
        return version_2(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err("it does not begin with the PROXY protocol");
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err("its line is too long");
        }
        let byte = stream.read_u8().await.map_err(|_| "it ended too early")?;
        line.push(byte);
    }
    version_1(&line)
}

/// `PROXY TCP4 source destination port port`
fn version_1(line: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    let wrong = "its line is wrong";
    let text = str::from_utf8(line).map_err(|_| wrong)?;
    let words: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
    let (family, source, port) = match *words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => return Ok(None),
        ["PROXY", family, source, _, port, _] => (family, source, port),
        _ => return Err(wrong),
    };
    let addr: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().map_err(|_| wrong)?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().map_err(|_| wrong)?.into(),
        _ => return Err(wrong),
    };
    let port = port.parse::<u16>().map_err(|_| wrong)?;
    Ok(Some(SocketAddr::new(addr.to_canonical(), port)))
}

async fn version_2(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, &'static str> {
    let mut head = [0; 4];
    stream
        .read_exact(&mut head)
        .await
        .map_err(|_| "it ended too early")?;
    let [version, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err("its header is too long");
    }
    let mut rest = vec![0; length];
    stream
        .read_exact(&mut rest)
        .await
        .map_err(|_| "it ended too early")?;
    match version {
        // LOCAL: the proxy looks whether we live.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err("its version or command is unknown"),
    }
    let short = "its addresses are too short";
    match family {
        0x11 => {
            let (source, port) = (piece::<4>(&rest, 0), piece::<2>(&rest, 8));
            let (source, port) = source.zip(port).ok_or(short)?;
            piece::<2>(&rest, 10).ok_or(short)?;
            let port = u16::from_be_bytes(port);
            Ok(Some(SocketAddr::new(Ipv4Addr::from(source).into(), port)))
        }
        0x21 => {
            let (source, port) = (piece::<16>(&rest, 0), piece::<2>(&rest, 32));
            let (source, port) = source.zip(port).ok_or(short)?;
            piece::<2>(&rest, 34).ok_or(short)?;
            let addr = IpAddr::from(Ipv6Addr::from(source)).to_canonical();
            Ok(Some(SocketAddr::new(addr, u16::from_be_bytes(port))))
        }
        // Unknown, datagrams, Unix sockets: nothing that counts as a client's address.
        _ => Ok(None),
    }
}

fn piece<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
