//! The commands and configurations in the docs, so that tests run what people copy.

/// The text of the first block of this language below the heading.
pub fn block(document: &str, heading: &str, language: &str) -> String {
    let path = format!("{}/docs/{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let at = text.find(&format!("\n{heading}\n"));
    let below = &text[at.unwrap_or_else(|| panic!("{document} has {heading}"))..];
    let begin = format!("\n```{language}\n");
    let (_, block) = below
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{heading} has a block of {language}"));
    block.split_once("\n```").unwrap().0.to_owned() + "\n"
}

/// Puts one text in the place of another, which must be there.
pub fn put(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from} in {text}");
    text.replace(from, to)
}
