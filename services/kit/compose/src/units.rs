//! Amounts as Compose files write them: sizes, durations, cores; and words as a shell splits them.

/// Bytes: `64M`, `1.5gb`, `512`. Units are powers of 1,024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: write 64M, 1.5G or bytes");
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let power = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let factor = 1024_u128.pow(power);
    let micros = decimal(number, 6).ok_or_else(wrong)?;
    u64::try_from(micros * factor / 1_000_000).map_err(|_| wrong())
}

/// Milliseconds: `1m30s`, `500ms`, `1d`, `1.5h`.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration: write 500ms, 30s, 1m30s or 1d");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    let mut micros: u128 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(split);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let each: u128 = match unit.trim() {
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            "w" => 604_800_000_000,
            _ => return Err(wrong()),
        };
        micros += decimal(number, 6).ok_or_else(wrong)? * each / 1_000_000;
        rest = next;
    }
    u64::try_from(micros.div_ceil(1_000)).map_err(|_| wrong())
}

/// Thousandths of a core: `0.5`, `2`.
pub(crate) fn cores(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number of cores: write 0.5 or 2");
    let millis = decimal(text.trim(), 3).ok_or_else(wrong)?;
    u64::try_from(millis).map_err(|_| wrong())
}

/// A number with a decimal point, times ten to the power of `places`. Digits beyond are cut.
fn decimal(text: &str, places: usize) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + part.len() == 0 || whole.len() > 20 || !digits(whole) || !digits(part) {
        return None;
    }
    let kept: String = part.chars().chain(std::iter::repeat('0')).take(places).collect();
    format!("{whole}{kept}").parse().ok()
}

/// Splits a command as a shell would: at spaces, outside of quotes. Nothing is expanded.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a single quote is not closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => {
                let next = chars.next().ok_or("nothing follows the last backslash")?;
                if next != '\n' {
                    word.get_or_insert_default().push(next);
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    let open = "a double quote is not closed";
    loop {
        match chars.next().ok_or(open)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(open)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                '\n' => {}
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (text, wanted) in [
            ("64M", 67_108_864),
            ("64mb", 67_108_864),
            ("1.5g", 1_610_612_736),
            ("512", 512),
            ("10k", 10_240),
            ("2 GiB", 2_147_483_648),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "M", "64X", "-1", "1e3", "99999999999T"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units_up_to_weeks() {
        for (text, wanted) in [
            ("1m30s", 90_000),
            ("1d", 86_400_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("10us", 1),
            ("0", 0),
            ("1h0m5s", 3_605_000),
        ] {
            assert_eq!(millis(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "5", "5 parsecs", "s", "-1s", "1m30"] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cores_are_thousandths() {
        assert_eq!(cores("0.5"), Ok(500));
        assert_eq!(cores("2"), Ok(2_000));
        assert_eq!(cores(".25"), Ok(250));
        assert_eq!(cores("0.12345"), Ok(123));
        assert!(cores("half").is_err() && cores("").is_err() && cores("-1").is_err());
    }

    #[test]
    fn words_are_split_outside_of_quotes() {
        let split = |text: &str| words(text).expect("it splits");
        assert_eq!(split("sh -c 'echo \"a b\"' x\\ y"), ["sh", "-c", "echo \"a b\"", "x y"]);
        assert_eq!(split("a \"b \\\" $c\" ''"), ["a", "b \" $c", ""]);
        assert_eq!(split("  one\n two\t"), ["one", "two"]);
        assert!(split("").is_empty());
        assert!(words("a 'b").is_err() && words("a \"b").is_err() && words("a\\").is_err());
    }
}
