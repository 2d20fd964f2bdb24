//! The process that decodes pictures, as the server starts it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// A picture of 400 x 400 pixels, gray, as a PNG without compression.
fn picture() -> Vec<u8> {
    let rows: Vec<u8> = (0..400)
        .flat_map(|y| std::iter::once(0).chain((0..400).map(move |x| ((x ^ y) % 256) as u8)))
        .collect();
    let mut data = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        data.push(u8::from(blocks.peek().is_none()));
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in &rows {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    data.extend(((b << 16) | a).to_be_bytes());
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = 400_u32.to_be_bytes().to_vec();
    head.extend(400_u32.to_be_bytes());
    head.extend([8, 0, 0, 0, 0]);
    for (kind, data) in [(b"IHDR", &head), (b"IDAT", &data), (b"IEND", &Vec::new())] {
        png.extend((data.len() as u32).to_be_bytes());
        let mut sum = u32::MAX;
        for byte in kind.iter().chain(data) {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
            }
        }
        png.extend(kind);
        png.extend(data);
        png.extend((!sum).to_be_bytes());
    }
    png
}

#[test]
fn a_picture_is_decoded_in_a_process_that_is_shut_in() {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_skerry"))
        .arg("make-thumbnails")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let picture = picture();
    // One size, no blurhash; so many pixels, so much memory.
    let mut order = 1_u32.to_be_bytes().to_vec();
    order.push(0);
    order.extend(50_000_000_u64.to_be_bytes());
    order.extend((128_u64 << 20).to_be_bytes());
    // Scaled to 320 x 240, standing still, also as a WebP.
    order.extend(320_u32.to_be_bytes());
    order.extend(240_u32.to_be_bytes());
    order.extend([0, 0, 1]);
    order.extend((picture.len() as u64).to_be_bytes());
    order.extend(&picture);
    // Twice, and a broken one between: one process makes them all.
    let mut broken = order.clone();
    broken[60] ^= 0xff;
    for (order, good) in [(&order, true), (&broken, false), (&order, true)] {
        worker.stdin.as_mut().unwrap().write_all(order).unwrap();
        let out = worker.stdout.as_mut().unwrap();
        let mut bytes = |before: &mut [u8]| {
            out.read_exact(before).unwrap();
            let mut length = [0; 8];
            out.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; u64::from_be_bytes(length) as usize];
            out.read_exact(&mut bytes).unwrap();
            bytes
        };
        let mut mark = [9];
        let text = bytes(&mut mark);
        if !good {
            assert_eq!(mark, [0], "{}", String::from_utf8_lossy(&text));
            continue;
        }
        assert_eq!((mark, &text[..]), ([1], &b"image/jpeg"[..]));
        let mut forms = [9; 2];
        let jpeg = bytes(&mut forms);
        assert_eq!(forms, [0, 1], "it stands still, and has bytes of its own");
        assert!(jpeg.starts_with(&[0xff, 0xd8]), "{} bytes", jpeg.len());
        assert!(bytes(&mut []).is_empty(), "nobody asked for a blurhash");
    }
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}
