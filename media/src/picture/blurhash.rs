//! Blurhashes (blurha.sh; MSC2448): a picture in some twenty letters, as the first few terms of a
//! two-dimensional cosine transform of its light.

use std::f32::consts::PI;

use image::RgbImage;

const DIGITS: &[u8; 83] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

/// The blurhash of a picture, which should be small; four terms along its longer side and three
/// along the other.
pub fn of(picture: &RgbImage) -> Option<String> {
    let (across, down) = match picture.width() >= picture.height() {
        true => (4, 3),
        false => (3, 4),
    };
    let mut terms = (0..down).flat_map(|y| (0..across).map(move |x| term(picture, x, y)));
    let light = terms.next()?;
    let rest: Vec<[f32; 3]> = terms.collect();
    let most = rest
        .iter()
        .flatten()
        .fold(0.0_f32, |most, v| most.max(v.abs()));
    let steps = (most * 166.0 - 0.5).floor().clamp(0.0, 82.0);
    let mut text = String::new();
    digits(&mut text, (across - 1) + (down - 1) * 9, 1);
    digits(&mut text, steps as u32, 1);
    let [red, green, blue] = light.map(stored);
    digits(&mut text, (red << 16) | (green << 8) | blue, 4);
    let most = (steps + 1.0) / 166.0;
    for values in rest {
        let packed = values.iter().fold(0, |packed, value| {
            let part = value / most;
            let level = (part.abs().sqrt().copysign(part) * 9.0 + 9.5).floor();
            packed * 19 + level.clamp(0.0, 18.0) as u32
        });
        digits(&mut text, packed, 2);
    }
    Some(text)
}

/// One term of the transform, in linear light.
fn term(picture: &RgbImage, x: u32, y: u32) -> [f32; 3] {
    let (width, height) = picture.dimensions();
    let mut sum = [0.0; 3];
    for (px, py, pixel) in picture.enumerate_pixels() {
        let wave = |n: u32, at: u32, length: u32| (PI * n as f32 * at as f32 / length as f32).cos();
        let basis = wave(x, px, width) * wave(y, py, height);
        for (sum, value) in sum.iter_mut().zip(pixel.0) {
            *sum += basis * linear(value);
        }
    }
    let norm = match (x, y) {
        (0, 0) => 1.0,
        _ => 2.0,
    };
    sum.map(|sum| sum * norm / (width as f32 * height as f32))
}

/// From sRGB to light between 0 and 1.
fn linear(value: u8) -> f32 {
    let value = f32::from(value) / 255.0;
    match value <= 0.040_45 {
        true => value / 12.92,
        false => ((value + 0.055) / 1.055).powf(2.4),
    }
}

/// The other way.
fn stored(light: f32) -> u32 {
    let light = light.clamp(0.0, 1.0);
    let value = match light <= 0.003_130_8 {
        true => light * 12.92,
        false => 1.055 * light.powf(1.0 / 2.4) - 0.055,
    };
    (value * 255.0 + 0.5) as u32
}

/// A number in so many digits of base 83.
fn digits(text: &mut String, value: u32, count: u32) {
    for place in (0..count).rev() {
        let digit = (value / 83_u32.pow(place)) % 83;
        text.push(char::from(
            DIGITS.get(digit as usize).copied().unwrap_or(b'~'),
        ));
    }
}
