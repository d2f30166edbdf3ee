//! The syntax of Java's properties files, as `java.util.Properties.load` defines it: comments,
//! continued lines, three separators, escapes.

use super::{Entry, Unreadable};

/// Reads a whole file. Names come in the file's order and as often as they stand there.
///
/// # Errors
/// The line with an escape that is none, and what was expected.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let mut entries = Vec::new();
    let mut lines = natural_lines(text).enumerate();
    while let Some((index, first)) = lines.next() {
        let line = index + 1;
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_escape(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let (name, value) = split(&logical);
        entries.push(Entry {
            name: unescape(name, line)?,
            value: unescape(value, line)?,
            line,
        });
    }
    Ok(entries)
}

/// Lines end in a line feed, a carriage return or both.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\r')
    })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// An even number of backslashes is that many escaped ones.
fn ends_in_escape(line: &str) -> bool {
    let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    backslashes % 2 == 1
}

/// The name ends at the first separator that is not escaped; blanks around `=` or `:` belong to neither.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let separates = !escaped && (is_blank(c) || matches!(c, '=' | ':'));
        escaped = c == '\\' && !escaped;
        separates
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(is_blank))
}

fn unescape(text: &str, line: usize) -> Result<String, Unreadable> {
    let wrong = || {
        Unreadable::at(
            line,
            "\\u is not followed by four hexadecimal digits that make a character",
        )
    };
    let mut out = String::with_capacity(text.len());
    // Java's escapes are units of UTF-16, and two of them can make one character.
    let mut high: Option<u16> = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let unit = if c != '\\' {
            Err(c)
        } else {
            let Some(escaped) = rest.chars().next() else {
                break;
            };
            rest = &rest[escaped.len_utf8()..];
            match escaped {
                'u' => {
                    let digits = rest.get(..4).ok_or_else(wrong)?;
                    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                        return Err(wrong());
                    }
                    rest = &rest[4..];
                    Ok(u16::from_str_radix(digits, 16).map_err(|_| wrong())?)
                }
                't' => Err('\t'),
                'n' => Err('\n'),
                'r' => Err('\r'),
                'f' => Err('\x0c'),
                other => Err(other),
            }
        };
        match (high.take(), unit) {
            (None, Err(c)) => out.push(c),
            (None, Ok(unit)) if (0xD800..0xDC00).contains(&unit) => high = Some(unit),
            (None, Ok(unit)) => out.push(char::from_u32(unit.into()).ok_or_else(wrong)?),
            (Some(high), Ok(low)) => {
                let pair = char::decode_utf16([high, low]).next();
                out.push(pair.and_then(Result::ok).ok_or_else(wrong)?);
            }
            (Some(_), Err(_)) => return Err(wrong()),
        }
    }
    match high {
        None => Ok(out),
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let entries = read(text).expect("a sound file");
        entries.into_iter().map(|e| (e.name, e.value)).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn three_separators_and_none() {
        let text = "a=1\nb : 2\nc   3\nd\n  e\t=\t4 \nf==5\ng :=6";
        let expected = [
            pair("a", "1"),
            pair("b", "2"),
            pair("c", "3"),
            pair("d", ""),
            pair("e", "4 "),
            pair("f", "=5"),
            pair("g", "=6"),
        ];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        let text = "# a=1\n  ! b=2\n\n \t \r\nc=#3\r#d\\\re=4";
        assert_eq!(pairs(text), [pair("c", "#3"), pair("e", "4")]);
    }

    #[test]
    fn lines_are_continued_after_an_odd_number_of_backslashes() {
        let text = "a=1,\\\n   2,\\\r\n# 3\nb=c\\\\\nd=e\\";
        let expected = [pair("a", "1,2,# 3"), pair("b", "c\\"), pair("d", "e")];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn a_line_is_counted_where_it_begins() {
        let entries = read("# x\n\na=1\\\n2\nb=3").expect("a sound file");
        let lines: Vec<_> = entries.iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [3, 5]);
    }

    #[test]
    fn escapes_are_read_in_names_and_values() {
        let text = "a\\ b\\=c\\:=\\t\\n\\r\\f\\q\\\\\nk=\\u0041\\u00e9\\uD83D\\ude00é";
        let expected = [pair("a b=c:", "\t\n\r\x0cq\\"), pair("k", "Aé😀é")];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn a_broken_unicode_escape_names_its_line() {
        for text in [
            "\n\na=\\u12",
            "\n\na=\\u12g4",
            "\n\na=\\uD83D",
            "\n\na=\\uD83Dx",
            "\n\na=\\uDE00",
            "\n\na=\\u1é4",
            "\n\na=\\u+123",
        ] {
            let error = read(text).expect_err("a broken escape");
            assert_eq!(error.line, Some(3), "{text:?}");
        }
    }
}
