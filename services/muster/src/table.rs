//! Plain aligned columns: readable by people, and by awk.

/// Rows under a head, each column as wide as its widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, widest) in cells.zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(widest - width(cell) + 2));
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// How many columns a text takes: what colours it takes none.
fn width(text: &str) -> usize {
    let mut parts = text.split('\u{1b}');
    let plain = parts.next().map_or(0, |part| part.chars().count());
    let painted =
        parts.map(|part| part.split_once('m').map_or(0, |(_, rest)| rest.chars().count()));
    plain + painted.sum::<usize>()
}

/// A number of bytes in the largest unit that leaves at least one. One word, so that columns stay columns.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (count >> (shift - 4)) * 10 / 16;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count}B"),
    }
}

/// How long ago, in the largest unit that leaves at least one.
pub(crate) fn ago(ms: u64) -> String {
    match ms / 1_000 {
        s if s < 60 => format!("{s}s"),
        s if s < 3_600 => format!("{}m", s / 60),
        s if s < 86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["a".to_owned(), "long".to_owned()], vec!["bcd".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["N", "V"], &rows), "N    V\na    long\nbcd  x\n");
        let painted = vec![vec!["\u{1b}[32mab\u{1b}[0m".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["N", "V"], &painted), "N   V\n\u{1b}[32mab\u{1b}[0m  x\n");
    }

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!(bytes(1_536 << 20), "1.5GiB");
        assert_eq!(bytes(12), "12B");
        assert_eq!(ago(90_000), "1m");
    }
}
