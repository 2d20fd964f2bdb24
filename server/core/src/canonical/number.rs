//! How numbers are written.

/// Appends an integer.
pub(super) fn write_int(n: i64, out: &mut String) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        if let Some(slot) = digits.get_mut(at) {
            // Less than ten, so it fits.
            *slot = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push('-');
    }
    out.extend(digits.iter().skip(at).map(|&d| char::from(d)));
}

/// A finite float as servers of room versions 1 to 5 publish it (the shortest digits that give the
/// same float back, in plain notation from 0.0001 up to below 1e16, else with an exponent of at
/// least two digits). `None` for what is not finite.
pub(super) fn float_text(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    // Rust's scientific form has the same shortest digits: "-1.25e-7".
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return Some(if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        });
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()))
}
