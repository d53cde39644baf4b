//! Templates that nobody wrote, over data of every shape.

use crate::mustache::{
    Failure, Halt, Key, Loaded, Loader, Output, Scope, Shape, Sink, Template, compile, escape,
};
use std::marker::PhantomData;

/// A value as it could come from JSON, and a lambda.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// No value: the search goes on.
    Nil,
    /// False ends the search and renders to nothing; true renders a section once.
    Bool(bool),
    /// Text.
    Text(&'static str),
    /// A list.
    List(Vec<Tree>),
    /// Names and their values.
    Map(Vec<(&'static str, Tree)>),
    /// Answers the section's text, in brackets.
    Lambda,
}

/// Why a rendering was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfPatience;

/// A scope over a [`Tree`] that ends the rendering after some pauses.
struct TreeScope<'d> {
    patience: usize,
    data: PhantomData<&'d Tree>,
}

/// Renders a template over `data`, for as long as `patience` pauses.
pub fn render(template: &Template, data: &Tree, patience: usize) -> Result<Vec<u8>, Halt<OutOfPatience>> {
    let mut output = Output::default();
    template.render(&mut TreeScope { patience, data: PhantomData }, data, &mut output)?;
    Ok(output.as_bytes().to_vec())
}

/// Compiles a text with partials by name; a partial named `self` is the text itself. `Loader(())` tells of a partial that
/// is not among them.
pub fn template(text: &[u8], partials: &[(&str, &[u8])]) -> Result<Template, Failure<()>> {
    compile(text.to_vec(), &mut Partials { texts: partials, loaded: Vec::new() })
}

impl<'d> Scope for TreeScope<'d> {
    type Value = &'d Tree;
    type Error = OutOfPatience;

    fn find(&mut self, context: &'d Tree, key: Key<'_>) -> Result<Option<&'d Tree>, OutOfPatience> {
        Ok(match context {
            Tree::Map(entries) => entries
                .iter()
                .find(|(name, _)| name.as_bytes() == key.text)
                .map(|(_, value)| value)
                .filter(|value| **value != Tree::Nil),
            value if key.text == b"." => Some(value),
            _ => None,
        })
    }

    fn shape(&mut self, value: &'d Tree) -> Result<Shape, OutOfPatience> {
        Ok(match value {
            Tree::Nil | Tree::Bool(false) => Shape::Empty,
            Tree::Bool(true) | Tree::Text(_) => Shape::Once,
            Tree::List(items) => Shape::List(items.len()),
            Tree::Map(_) => Shape::Context,
            Tree::Lambda => Shape::Lambda,
        })
    }

    fn item(&mut self, list: &'d Tree, index: usize) -> Result<Option<&'d Tree>, OutOfPatience> {
        let Tree::List(items) = list else { panic!("only a list has items") };
        assert!(index < items.len(), "an item beyond the list");
        Ok(items.get(index))
    }

    fn print(&mut self, value: &'d Tree, sink: &mut Sink<'_>) -> Result<(), OutOfPatience> {
        match value {
            Tree::Nil | Tree::Bool(false) => {}
            Tree::Bool(true) => sink.write(b"true"),
            Tree::Text(text) => sink.write(text.as_bytes()),
            other => sink.write(format!("{other:?}").as_bytes()),
        }
        Ok(())
    }

    fn call(&mut self, lambda: &'d Tree, raw: &[u8], sink: &mut Sink<'_>) -> Result<(), OutOfPatience> {
        assert_eq!(*lambda, Tree::Lambda);
        sink.write(b"[");
        sink.write(raw);
        sink.write(b"]");
        Ok(())
    }

    fn pause(&mut self) -> Result<(), OutOfPatience> {
        self.patience = self.patience.checked_sub(1).ok_or(OutOfPatience)?;
        Ok(())
    }
}

/// Partials by name; `self` is the template itself.
struct Partials<'p> {
    texts: &'p [(&'p str, &'p [u8])],
    loaded: Vec<Vec<u8>>,
}

impl Loader for Partials<'_> {
    type Error = ();

    fn load(&mut self, name: &[u8], within: usize) -> Result<Loaded, ()> {
        assert!(within <= self.loaded.len(), "a unit that was never loaded");
        if name == b"self" {
            return Ok(Loaded::Known(0));
        }
        if let Some(place) = self.loaded.iter().position(|known| known == name) {
            return Ok(Loaded::Known(place + 1));
        }
        let (_, text) = self.texts.iter().find(|(known, _)| known.as_bytes() == name).ok_or(())?;
        self.loaded.push(name.to_vec());
        Ok(Loaded::New(text.to_vec()))
    }
}

/// Templates: `data` is a template and, behind the first NUL, a partial named `p`. Whatever they are, they compile to an
/// error or to something that renders; a line before them changes nothing; and what is escaped can be read back.
pub fn mustache(data: &[u8]) {
    let middle = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (text, rest) = data.split_at(middle);
    let partials = [("p", rest.strip_prefix(b"\0").unwrap_or(rest))];
    check_escape(data);
    let compiled = template(text, &partials);
    if memchr::memmem::find(text, b"{{").is_none() {
        let template = compiled.as_ref().expect("a text without tags is a template");
        assert_eq!(over_sample(template).as_deref(), Ok(text), "a text without tags stays as it is");
    }
    // Within the partial `self` the line would come again.
    if memchr::memmem::find(data, b"self").is_none() {
        check_line_before(text, &partials, &compiled);
    }
}

fn over_sample(template: &Template) -> Result<Vec<u8>, Halt<OutOfPatience>> {
    render(template, &sample(), 16)
}

fn check_line_before(text: &[u8], partials: &[(&str, &[u8])], alone: &Result<Template, Failure<()>>) {
    const LINE: &[u8] = b"{ }\n";
    let behind = template(&[LINE, text].concat(), partials);
    match (alone, &behind) {
        (Ok(alone), Ok(behind)) => {
            let (alone, behind) = (over_sample(alone), over_sample(behind));
            // One instruction more may be one pause more.
            let tired = Err(Halt::Scope(OutOfPatience));
            assert!(alone == tired || behind == tired || behind == alone.map(|text| [LINE, &text].concat()));
        }
        (Err(Failure::Template { fault: alone, .. }), Err(Failure::Template { fault: behind, .. })) => {
            assert_eq!(alone, behind);
        }
        (Err(Failure::Loader(())), Err(Failure::Loader(()))) => {}
        _ => panic!("a line before a template changed it"),
    }
}

fn check_escape(data: &[u8]) {
    let mut escaped = Vec::new();
    escape(data, &mut escaped);
    assert!(
        !escaped.iter().any(|byte| b"<>\"' \n=`/".contains(byte)),
        "nothing that means something in HTML"
    );
    assert_eq!(unescape(&escaped), data, "round trip");
}

/// A second, slow reading of character references.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&byte, rest)) = text.split_first() {
        if byte != b'&' {
            out.push(byte);
            text = rest;
            continue;
        }
        let end = rest.iter().position(|&byte| byte == b';').expect("a reference has an end");
        let (reference, after) = rest.split_at(end);
        out.push(match reference {
            b"quot" => b'"',
            b"amp" => b'&',
            b"apos" => b'\'',
            b"lt" => b'<',
            b"gt" => b'>',
            [b'#', digits @ ..] => {
                let digits = std::str::from_utf8(digits).expect("digits");
                digits.parse().expect("a reference to a byte")
            }
            _ => panic!("no reference that we make"),
        });
        text = after.strip_prefix(b";").expect("checked above");
    }
    out
}

/// A value of every shape, with names short enough to be found.
fn sample() -> Tree {
    use Tree::{Bool, Lambda, List, Map, Nil, Text};
    let item = |text| Map(vec![("a", Text(text)), ("n", Nil)]);
    Map(vec![
        ("a", Text("<a>\n&b")),
        ("b", Map(vec![("a", Text("inner")), ("c", Map(vec![("d", Bool(true))])), ("c.d", Text("dotted"))])),
        ("e", Text("")),
        ("f", Bool(false)),
        ("l", List(vec![item("1"), item("2\n"), Nil, Text("3")])),
        ("n", Nil),
        ("t", Bool(true)),
        ("x", Lambda),
        ("z", List(Vec::new())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"{{a}} {{{a}}} {{&a}} {{:a}} {{<a}} {{ b.c.d }}{{b.a.q}}",
            b"{{#l}}{{.}}{{a}},{{/l}}{{^z}}none{{/z}}{{#x}} {{raw}} {{/x}}",
            b"  {{>p}}\n{{#t}}\n  {{> p }}\n{{/t}}\0{{a}}\nx{{#b}}\n{{a}}\n{{/b}}",
            b"{{>self}}{{#l}}{{>self}}{{/l}}",
            b"{{#l}}{{#l}}{{#l}}{{#l}}{{#l}}{{#l}}{{#l}}{{#l}}{{#l}}x{{/l}}{{/l}}{{/l}}{{/l}}{{/l}}{{/l}}{{/l}}{{/l}}{{/l}}",
            b"{{=<% %>=}}<%a%><%={{ }}=%>{{a}}{{! gone }}",
            b"{{",
            b"{{}}",
            b"{{ }}",
            b"{{>}}{{> }}{{>q}}",
            b"{{#a}}{{/b}}",
            b"{{=x=}}",
            b"a\0b{{a}}",
            b"\xff{{\xff}}",
        ] {
            mustache(data);
        }
    }
}
