//! Templates by tables: the sections of the specification, and what iodine 0.7 does beyond it or got wrong.

use iodine_codec::check::mustache::Tree;
use iodine_codec::check::{self, OutOfPatience, render, template};
use iodine_codec::mustache::{
    Failure, Fault, Halt, MAX_PARTIALS, MAX_SECTIONS, MAX_SECTIONS_IN_TEMPLATE, escape,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use Tree::{Bool, Lambda, List, Map, Nil, Text};

const PATIENCE: usize = 1000;

fn data() -> Tree {
    let person = |name| Map(vec![("name", Text(name)), ("nothing", Nil), ("no", Bool(false))]);
    Map(vec![
        ("name", Text("outer")),
        ("nothing", Text("something")),
        ("no", Text("yes")),
        ("html", Text("<b class=\"x\">'&'</b>")),
        ("lines", Text("1\n2")),
        ("yes", Bool(true)),
        ("false", Bool(false)),
        ("person", person("Ann")),
        ("people", List(vec![person("Ann"), person("Bob")])),
        ("empty", List(vec![])),
        ("flat", List(vec![Text("a"), Nil, Text("c")])),
        ("nested", List(vec![List(vec![Text("1"), Text("2")]), List(vec![]), List(vec![Text("3")])])),
        (
            "a",
            Map(vec![
                ("b.c", Text("whole rest")),
                ("b", Map(vec![("c", Text("by segment")), ("d", Text("D"))])),
            ]),
        ),
        ("x.y", Text("whole name")),
        ("x", Map(vec![("y", Text("not reached"))])),
        ("shout", Lambda),
        ("na\u{ef}ve", Text("\u{e9}")),
    ])
}

fn rendered(text: &str, partials: &[(&str, &[u8])]) -> String {
    let compiled =
        template(text.as_bytes(), partials).unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
    let bytes = render(&compiled, &data(), PATIENCE).unwrap_or_else(|halt| panic!("{text}: {halt:?}"));
    String::from_utf8(bytes).expect("UTF-8 stays UTF-8")
}

fn assert_table(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(rendered(text, &[]), *expected, "{text}");
    }
}

#[test]
fn values() {
    assert_table(&[
        ("", ""),
        ("no tag, { one }, }} or two", "no tag, { one }, }} or two"),
        ("{{name}}{{ name }}{{\n name\t}}", "outerouterouter"),
        ("{{:name}} {{< name }} {{& name }} {{{ name }}}", "outer outer outer outer"),
        ("{{html}}", "&lt;b&#32;class&#61;&quot;x&quot;&gt;&apos;&amp;&apos;&lt;&#47;b&gt;"),
        ("{{{html}}}", "<b class=\"x\">'&'</b>"),
        ("{{&html}}", "<b class=\"x\">'&'</b>"),
        ("[{{missing}}{{{missing}}}{{false}}]", "[]"),
        ("{{yes}}", "true"),          // F54: 0.7 wrote it twice
        ("{{na\u{ef}ve}}", "\u{e9}"), // F53
        ("{{{name}}}}", "outer}"),
        ("{{name}}}", "outer}"),
        ("{ {{name}} }", "{ outer }"),
    ]);
}

#[test]
fn names_are_looked_for_from_the_inside_out() {
    assert_table(&[
        ("{{#person}}{{name}}{{/person}}", "Ann"),
        (
            "{{#person}}{{html}}{{/person}}",
            "&lt;b&#32;class&#61;&quot;x&quot;&gt;&apos;&amp;&apos;&lt;&#47;b&gt;",
        ),
        ("{{#person}}{{nothing}}{{/person}}", "something"), // nil goes on to the outside
        ("{{#person}}[{{no}}]{{/person}}", "[]"),           // false does not
        ("{{#yes}}{{name}}{{/yes}}", "outer"),
        ("{{#name}}{{name}}{{.}}{{/name}}", "outer"), // text is no context
    ]);
}

#[test]
fn dotted_names() {
    assert_table(&[
        ("{{person.name}}", "Ann"),
        ("{{x.y}}", "whole&#32;name"),
        ("{{{a.b.c}}}", "whole rest"),
        ("{{a.b.d}}", "D"),
        ("[{{person.nothing}}{{person.nope}}{{nope.name}}{{name.name}}]", "[]"),
        ("{{#person}}{{person.name}}{{/person}}", "Ann"),
        ("{{#a.b}}{{d}}{{/a.b}}", "D"),
        ("[{{..}}{{.a}}{{a.}}]", "[]"),
    ]);
}

#[test]
fn sections() {
    assert_table(&[
        ("{{#yes}}1{{/yes}}{{#false}}2{{/false}}{{#missing}}3{{/missing}}{{#empty}}4{{/empty}}", "1"),
        ("{{^yes}}1{{/yes}}{{^false}}2{{/false}}{{^missing}}3{{/missing}}{{^empty}}4{{/empty}}", "234"),
        ("{{#people}}{{name}},{{/people}}", "Ann,Bob,"),
        ("{{#flat}}({{.}}){{/flat}}", "(a)()(c)"),
        ("{{#nested}}<{{#.}}{{.}};{{/.}}>{{/nested}}", "<1;2;><><3;>"),
        ("{{#people}}{{#people}}{{name}} {{/people}}|{{/people}}", "Ann Bob |Ann Bob |"),
        ("{{# people }}x{{/people}}", "xx"),
        ("{{#shout}} {{raw}} {{/shout}}{{^shout}}no{{/shout}}", "[ {{raw}} ]"),
        ("{{#shout}}{{/shout}}", "[]"),
        ("{{#shout}}\n  {{raw}}\n{{/shout}}\n", "[  {{raw}}\n]"),
        ("{{#yes}}{{#shout}}a{{/shout}}b{{/yes}}", "[a]b"),
    ]);
}

#[test]
fn lines_of_their_own() {
    assert_table(&[
        ("a\n{{! x }}\nb", "a\nb"),
        ("a\r\n  {{!x}}\r\nb", "a\r\nb"),
        ("  {{!x}}", ""),
        ("a\n{{!\n x\n}}\nb", "a\nb"),
        ("a\n{{!x}} \nb", "a\n \nb"), // a blank behind it makes it one of the line's words
        ("a {{!x}}\nb", "a \nb"),
        ("{{!x}}{{!y}}\nb", "\nb"),
        ("  {{yes}}\n", "  true\n"),
        ("  {{#yes}}\n  a\n\t{{/yes}}\nb", "  a\nb"),
        ("{{#yes}} {{! x }}\n {{/yes}}|\n", " \n |\n"),
        ("{{#yes}}\r{{/yes}}", "\r"),
    ]);
}

#[test]
fn delimiters() {
    assert_table(&[
        ("{{=<% %>=}}<%name%> {{name}}", "outer {{name}}"),
        ("{{= | | =}}|name|", "outer"),
        ("{{=<% %>=}}<%={{ }}=%>{{name}}", "outer"),
        ("a\n {{=@ @=}}\nb@name@", "a\nbouter"),
        ("{{=[ ]=}}[{html}][&name]", "<b class=\"x\">'&'</b>outer"),
        ("{{=aaaa bbbb=}}aaaanamebbbb", "outer"),
        ("{{=<% %>=}}<%#people%><%name%><%/people%>", "AnnBob"),
    ]);
}

#[test]
fn partials() {
    for (text, partial, expected) in [
        ("{{>p}}", "{{name}}", "outer"),
        ("({{> p }})", "{{#people}}{{name}}{{/people}}", "(AnnBob)"),
        ("{{=<% %>=}}<%>p%>", "{{name}}<%name%>", "outer<%name%>"),
        ("{{>p}} {{name}}", "{{=<% %>=}}<%name%>", "outer outer"),
        ("{{#people}}{{>p}}{{/people}}", "{{name}};", "Ann;Bob;"),
        ("{{>p}}\nb", "a\n", "a\nb"),
        ("  {{>p}}\nb", "1\n2\n", "  1\n  2\nb"),
        ("  {{>p}}\nb", "1\n2", "  1\n  2b"),
        ("\t{{>p}}", "1\n\n2", "\t1\n\t\n\t2"),
        (" x {{>p}}\n", "1\n2", " x 1\n2\n"),
        ("  {{>p}}\n", "{{lines}}\n{{{lines}}}\n", "  1\n  2\n  1\n  2\n"),
        ("{{>p}}\n", "{{lines}}", "1&#10;2"),
        ("  {{>p}}\n", "{{#yes}}\n a\n{{/yes}}\n", "   a\n"),
        ("  {{>p}}\n", "{{#shout}}\na\nb\n{{/shout}}\n", "  [a\n  b\n  ]"),
        // F55: 0.7 kept the padding of the first occurrence.
        ("  {{>p}}\n{{>p}}\n {{>p}}\n", "a\nb\n", "  a\n  b\na\nb\n a\n b\n"),
    ] {
        assert_eq!(rendered(text, &[("p", partial.as_bytes())]), expected, "{text} with {partial}");
    }
    let nested: [(&str, &[u8]); 2] = [("p", b"1\n {{>q}}\n2\n"), ("q", b"a\nb\n")];
    assert_eq!(rendered("  {{>p}}\n.", &nested), "  1\n   a\n   b\n  2\n.");
    assert_eq!(rendered("  {{>p}}{{>q}}\n.", &nested), "  1\n a\n b\n2\na\nb\n\n.");
}

#[test]
fn f52_f56_long_text_and_nul_bytes() {
    for length in [65_535, 65_536, 65_537, 200_000] {
        let text = "y".repeat(length);
        assert_eq!(rendered(&text, &[]), text);
        assert_eq!(rendered(&format!("{text}{{{{name}}}}"), &[]), format!("{text}outer"));
    }
    assert_eq!(rendered("a\0b{{name}}", &[]), "a\0bouter");
}

#[test]
fn faults() {
    use Fault::*;
    for (text, fault, line) in [
        ("{{", ClosureMismatch, 1),
        ("{{a", ClosureMismatch, 1),
        ("a\n\n{{a}", ClosureMismatch, 3),
        ("{{{a}}", ClosureMismatch, 1),
        ("{{! x", ClosureMismatch, 1),
        ("a\n{{#a}}", ClosureMismatch, 2),
        ("a\nb{{/a}}", ClosureMismatch, 2),
        ("{{#a}}\n{{/b}}", ClosureMismatch, 2),
        ("\n{{#a}}\n\n{{b}}\n", ClosureMismatch, 2),
        ("{{#a}}{{#b}}{{/a}}{{/b}}", ClosureMismatch, 1),
        ("{{==}}", ClosureMismatch, 1),
        ("{{= =}}", ClosureMismatch, 1),
        ("{{=a=}}", ClosureMismatch, 1),
        ("{{=a b c=}}", ClosureMismatch, 1),
        ("{{=a b", ClosureMismatch, 1),
        ("{{=== ===}}", ClosureMismatch, 1),
        ("{{=aaaaa b=}}", DelimiterTooLong, 1),
        ("{{=a bbbbb=}}", DelimiterTooLong, 1),
        ("{{}}", NoName, 1), // F51
        ("\n{{ }}", NoName, 2),
        ("{{{ }}}", NoName, 1),
        ("{{#}}{{/}}", NoName, 1),
        ("{{>}}", NoPartialName, 1),
        ("{{> }}", BlankPartialName, 1),
    ] {
        let failure = template(text.as_bytes(), &[]).expect_err(text);
        match failure {
            Failure::Template { fault: found, line: at, unit: 0 } => {
                assert_eq!(found, fault, "{text}");
                assert_eq!(at, line, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(template(b"{{>nope}}", &[]).expect_err("no partial"), Failure::Loader(()));
    assert!(matches!(template(b"{{>p}}", &[("p", b"\n{{")]), Err(Failure::Template { unit: 1, .. })));
}

fn nest(depth: usize) -> String {
    "{{#yes}}".repeat(depth) + "x" + &"{{/yes}}".repeat(depth)
}

#[test]
fn nesting_has_bounds() {
    assert_eq!(rendered(&nest(MAX_SECTIONS), &[]), "x");
    let deep = template(nest(MAX_SECTIONS_IN_TEMPLATE).as_bytes(), &[]).expect("is compiled");
    assert_eq!(render(&deep, &data(), PATIENCE), Err(Halt::TooDeep));
    // What is not entered may be as deep as it likes to.
    let closed = format!("{{{{#false}}}}{}{{{{/false}}}}", nest(MAX_SECTIONS));
    assert_eq!(rendered(&closed, &[]), "");
    let failure = template(nest(MAX_SECTIONS_IN_TEMPLATE + 1).as_bytes(), &[]).expect_err("is too deep");
    assert!(matches!(failure, Failure::Template { fault: Fault::NestingTooDeep, .. }));
}

#[test]
fn recursion_has_bounds() {
    for text in [
        "{{>self}}",
        "a {{>self}}{{>self}}",
        "{{#yes}}{{>self}}{{/yes}}",
        "{{#people}}{{>self}}{{/people}}",
        "{{>p}}",
    ] {
        let recursive = template(text.as_bytes(), &[("p", b"  {{>self}}\n")]).expect(text);
        assert_eq!(render(&recursive, &data(), PATIENCE), Err(Halt::TooDeep), "{text}");
    }
}

#[test]
fn recursion_may_follow_the_data() {
    fn tree(depth: usize) -> Tree {
        let below = if depth == 0 { Bool(false) } else { tree(depth - 1) };
        Map(vec![("n", Text("n")), ("below", below)])
    }
    let node = template(b"{{n}}{{#below}}{{>self}}{{/below}}", &[]).expect("is a template");
    let depth = MAX_SECTIONS.min(MAX_PARTIALS);
    assert_eq!(render(&node, &tree(depth), PATIENCE), Ok(vec![b'n'; depth + 1]));
    assert_eq!(render(&node, &tree(depth + 1), PATIENCE), Err(Halt::TooDeep));
}

#[test]
fn a_rendering_can_be_ended() {
    let text = "{{#nested}}".repeat(60) + &"{{/nested}}".repeat(60);
    let endless = template(text.as_bytes(), &[]).expect("is a template");
    assert_eq!(render(&endless, &data(), 3), Err(Halt::Scope(OutOfPatience)));
}

/// Bytes that look enough like templates to be some.
fn almost_template() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"{{",
        b"}}",
        b"{{{",
        b"}}}",
        b"{{#a}}",
        b"{{/a}}",
        b"{{^a}}",
        b"{{#l}}",
        b"{{/l}}",
        b"{{#b}}",
        b"{{/b}}",
        b"{{a}}",
        b"{{&a}}",
        b"{{.}}",
        b"{{b.c.d}}",
        b"{{>p}}",
        b"{{> p }}",
        b"{{>self}}",
        b"{{! a }}",
        b"{{=<% %>=}}",
        b"<%={{ }}=%>",
        b"<%",
        b"%>",
        b"=}}",
        b"{{=",
        b"{{#x}}",
        b"{{/x}}",
        b"{{^z}}",
        b"{{/z}}",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"  ",
        b"text",
        b"a",
        b"l",
        b".",
        b"#",
        b"/",
        b"=",
        b">",
        b"\0",
        b"\xff",
    ];
    let word = prop_oneof![
        12 => select(words).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

/// Text without anything that could be a part of a tag.
fn plain() -> impl Strategy<Value = String> {
    "[a-z<>&\"' \t\r\n]{0,12}"
}

proptest! {
    #[test]
    fn no_template_breaks_an_invariant(data in almost_template()) {
        check::mustache(&data);
    }

    #[test]
    fn no_bytes_at_all_break_an_invariant(data in vec(any::<u8>(), 0..200)) {
        check::mustache(&data);
    }

    #[test]
    fn a_value_is_put_where_its_tag_stands(before in plain(), after in plain(), sign in select(vec!["", "&", ":", "<"])) {
        let expected = match sign {
            "&" => "<b class=\"x\">'&'</b>".to_owned(),
            _ => {
                let mut escaped = Vec::new();
                escape(b"<b class=\"x\">'&'</b>", &mut escaped);
                String::from_utf8(escaped).expect("ASCII")
            }
        };
        let text = format!("{before}{{{{{sign} html }}}}{after}");
        prop_assert_eq!(rendered(&text, &[]), format!("{before}{expected}{after}"));
    }

    /// Inside a word no tag has a line to itself, so sections and partials are what they contain.
    #[test]
    fn sections_and_partials_are_transparent(inner in plain()) {
        let expected = format!("[{inner}][{inner}{inner}][{inner}]");
        let text = format!("[{{{{#yes}}}}|{inner}|{{{{/yes}}}}][{{{{#people}}}}|{inner}|{{{{/people}}}}][{{{{>p}}}}]");
        let partial = format!("|{inner}|");
        prop_assert_eq!(rendered(&text, &[("p", partial.as_bytes())]).replace('|', ""), expected);
    }
}
