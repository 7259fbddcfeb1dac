//! Compares what a command printed with what a README says it prints.
//!
//! Columns may differ in width. `<word>` stands for any text within a word, a line `...` for any number of lines.

/// Why the printed text is not the expected one; `None` when it is.
pub fn difference(expected: &str, printed: &str) -> Option<String> {
    let wanted: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let got: Vec<&str> = printed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines(&wanted, &got) {
        true => None,
        false => Some(format!("expected\n{expected}\nprinted\n{printed}")),
    }
}

fn lines(wanted: &[&str], got: &[&str]) -> bool {
    match (wanted.split_first(), got.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=got.len()).any(|skipped| lines(rest, &got[skipped..])),
        (Some((first, wanted)), Some((line, got))) => is_line(first, line) && lines(wanted, got),
        _ => false,
    }
}

fn is_line(wanted: &str, got: &str) -> bool {
    let (mut wanted, mut got) = (wanted.split_whitespace(), got.split_whitespace());
    loop {
        match (wanted.next(), got.next()) {
            (None, None) => return true,
            (Some(pattern), Some(word)) if is_word(pattern, word) => {}
            _ => return false,
        }
    }
}

fn is_word(pattern: &str, word: &str) -> bool {
    let placeholder = pattern.split_once('<').and_then(|(head, rest)| Some((head, rest.split_once('>')?.1)));
    match placeholder {
        None => pattern == word,
        Some((head, tail)) => word
            .strip_prefix(head)
            .is_some_and(|rest| (1..=rest.len()).any(|cut| rest.get(cut..).is_some_and(|end| is_word(tail, end)))),
    }
}

/// A command of a README and what it prints there, if that is shown.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub command: String,
    pub output: Option<String>,
}

/// The `sh` blocks of a README, each with the `text` block that follows it.
pub fn steps(markdown: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block =
            lines.by_ref().take_while(|line| !line.starts_with("```")).map(|line| format!("{line}\n")).collect();
        match (language, steps.last_mut()) {
            ("sh", _) => steps.push(Step { command: block, output: None }),
            ("text", Some(step)) => step.output = Some(block),
            _ => {}
        }
    }
    steps
}

#[test]
fn placeholders_and_gaps_match_and_nothing_else_does() {
    let printed = "NAME    READY   AGE\nweb-0   1/1     5s\nweb-1   0/1     10m\n";
    assert_eq!(difference("NAME READY AGE\nweb-0 1/1 <age>\n...\n", printed), None);
    assert_eq!(difference("...\nweb-<n> 0/1 <age>m\n", printed), None);
    assert!(difference("NAME READY AGE\nweb-0 1/1 <age>\n", printed).is_some());
    assert!(difference("...\nweb-1 1/1 <age>\n", printed).is_some());
    assert!(difference("", printed).is_some());
    let read = steps("# T\n```sh\nls\n```\nprints\n```text\na\n```\n```yaml\nb\n```\n```sh\ncd\n```\n");
    assert_eq!(read[0], Step { command: "ls\n".into(), output: Some("a\n".into()) });
    assert_eq!(read[1], Step { command: "cd\n".into(), output: None });
}
