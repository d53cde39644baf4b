//! JSON: a table of documents, and random ones read beside serde_json.
//!
//! Names say what is expected of a strict parser: `y_` takes it, `n_` refuses it, `i_` is up to it. What the lenient one
//! makes of those it does not refuse, too, stands beside them.

use iodine_codec::check::{self, Tree};
use iodine_codec::json::{Builder, ErrorKind, Rules, Scratch, Text, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A tree in one line.
fn told(tree: &Tree) -> String {
    let list = |words: Vec<String>| words.join(" ");
    match tree {
        Tree::Null => "null".into(),
        Tree::Boolean(value) => value.to_string(),
        Tree::Integer(value) => value.to_string(),
        Tree::BigInteger(digits, 10) => format!("big {digits}"),
        Tree::BigInteger(digits, radix) => format!("big {digits} in base {radix}"),
        Tree::Float(value) => format!("{value:?}"),
        Tree::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Tree::Binary(bytes) => format!("bytes {}", bytes.escape_ascii()),
        Tree::Array(items) => format!("[{}]", list(items.iter().map(told).collect())),
        Tree::Object(members) => {
            let member = |(key, value): &(Tree, Tree)| format!("{}={}", told(key), told(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
    }
}

const BOTH: &[(&str, &str, &str)] = &[
    ("y_null", "null", "null"),
    ("y_true", "true", "true"),
    ("y_false", "false", "false"),
    ("y_blanks", " \t\r\n[ \n1\t,\r2 ] \n", "[1 2]"),
    ("y_zero", "0", "0"),
    ("y_minus_zero", "-0", "0"),
    ("y_minus_zero_float", "-0.0", "-0.0"),
    ("y_integer_18_digits", "999999999999999999", "999999999999999999"),
    ("y_integer_19_digits", "-1000000000000000000", "-1000000000000000000"),
    ("y_integer_greatest", "9223372036854775807", "9223372036854775807"),
    ("y_integer_least", "-9223372036854775808", "-9223372036854775808"),
    ("y_integer_above", "9223372036854775808", "big 9223372036854775808"),
    ("y_integer_below", "-9223372036854775809", "big -9223372036854775809"),
    ("y_integer_20_digits", "18446744073709551616", "big 18446744073709551616"),
    ("y_integer_wraps_to_small", "18446744073709551617", "big 18446744073709551617"),
    ("y_float", "[1.5,-2.25,0.1]", "[1.5 -2.25 0.1]"),
    ("y_float_exponent", "[1e5,1E5,1e+5,1e-5,1.5e3]", "[100000.0 100000.0 100000.0 1e-5 1500.0]"),
    ("y_float_exponent_zeros", "1e0000000000000000000000001", "10.0"),
    ("y_float_huge", "1e999", "inf"),
    ("y_float_huge_exponent", "-1e99999999999999999999999999", "-inf"),
    ("y_float_tiny_exponent", "1e-99999999999999999999999999", "0.0"),
    ("y_float_zero_huge_exponent", "0e99999999999999999999999999", "0.0"),
    ("y_float_17_digits", "0.30000000000000004", "0.30000000000000004"),
    ("y_float_halfway", "9007199254740993.0", "9007199254740992.0"),
    ("y_float_above_halfway", "9007199254740993.00000000000000000001", "9007199254740994.0"),
    ("y_float_subnormal", "4.9e-324", "5e-324"),
    ("y_float_power_22", "1e22", "1e22"),
    ("y_float_power_23", "1e23", "1e23"),
    ("y_string_empty", r#""""#, r#""""#),
    ("y_string_escapes", r#""\"\\\/\b\f\n\r\t""#, r#""\"\\/\u{8}\u{c}\n\r\t""#),
    ("y_string_unicode_escape", r#""\u00e9\u20AC\u0000""#, r#""é€\0""#),
    ("y_string_f48_adjacent_escapes", r#""\u00e9\u00ea\u0041\u0042""#, r#""éêAB""#),
    ("y_string_surrogates", r#""\ud83d\uDE00""#, r#""😀""#),
    ("y_string_last_character", r#""\udbff\udfff""#, r#""\u{10ffff}""#),
    ("y_string_utf8", r#""é€😀""#, r#""é€😀""#),
    ("y_string_delete", "\"\u{7f}\"", r#""\u{7f}""#),
    ("y_string_escape_then_utf8", r#""\né""#, r#""\né""#),
    ("y_array_empty", "[]", "[]"),
    ("y_array_nested", "[[],[[]],{}]", "[[] [[]] {}]"),
    ("y_object_empty", "{}", "{}"),
    ("y_object", r#"{"a":1,"b":[2],"":{"é":null}}"#, r#"{"a"=1 "b"=[2] ""={"é"=null}}"#),
    ("y_object_repeated_key", r#"{"a":1,"a":2}"#, r#"{"a"=1 "a"=2}"#),
    ("y_object_escaped_key", r#"{"\u0061\n":1}"#, r#"{"a\n"=1}"#),
];

const LENIENT_ONLY: &[(&str, &str, &str)] = &[
    ("n_comma_trailing", "[1,]", "[1]"),
    ("n_comma_leading", "[,1]", "[1]"),
    ("n_comma_double", "[1,,2]", "[1 2]"),
    ("n_comma_alone", "[,]", "[]"),
    ("n_comma_missing", "[1 2\"a\"\"b\"[]{}true]", "[1 2 \"a\" \"b\" [] {} true]"),
    ("n_object_comma_trailing", r#"{"a":1,}"#, r#"{"a"=1}"#),
    ("n_object_comma_alone", "{,}", "{}"),
    ("n_object_comma_missing", r#"{"a":1"b":2}"#, r#"{"a"=1 "b"=2}"#),
    ("n_object_value_missing", r#"{"a":}"#, r#"{"a"=null}"#),
    ("n_object_value_missing_twice", r#"{"a":,"b": ,}"#, r#"{"a"=null "b"=null}"#),
    ("n_comment_hash", "# x\n[1 # y ]\n]", "[1]"),
    ("n_comment_slashes", "// x\n[1, // y ]\n2]", "[1 2]"),
    ("n_comment_block", "/* [ * / */[1/**/,/***/2]/*]*/", "[1 2]"),
    ("n_comment_at_the_end", "1 // done", "1"),
    ("n_comment_behind_key", "{\"a\"/**/:#\n1}", "{\"a\"=1}"),
    ("n_hex", "[0x1F,x1F,0Xff,-0x1f]", "[31 31 255 -31]"),
    ("n_binary", "[0b101,0B11]", "[5 3]"),
    ("n_hex_big", "0xFFFFFFFFFFFFFFFF", "big FFFFFFFFFFFFFFFF in base 16"),
    ("n_float_no_integer", "[.5,-.5,.5e1]", "[0.5 -0.5 5.0]"),
    ("n_float_no_fraction", "[5.,5.e1]", "[5.0 50.0]"),
    ("n_nan", "[NaN,nan,-NaN]", "[NaN NaN NaN]"),
    ("n_infinity", "[Infinity,inf,-Infinity,-inf]", "[inf inf -inf -inf]"),
    ("n_null_capital", "Null", "null"),
    ("n_string_newline", "\"a\nb\"", r#""a\nb""#),
    ("n_string_nul", "\"a\0b\"", r#""a\0b""#),
    ("n_string_long_with_tab", "\"aaaaaaaaaaaaaaaaaa\tb\"", r#""aaaaaaaaaaaaaaaaaa\tb""#),
    ("n_escape_hex", r#""\x41\x0a""#, r#""A\n""#),
    ("n_escape_hex_utf8", r#""\xc3\xa9""#, r#""é""#),
    ("n_escape_hex_binary", r#""é\xff""#, r"bytes \xc3\xa9\xff"),
    ("n_escape_octal", r#""\12\101""#, r#""\n\u{8}1""#),
    ("n_escape_octal_one_digit", r#""\1z\8""#, r#""1z8""#),
    ("n_escape_unknown", r#""\q\é\'""#, r#""qé'""#),
    ("n_surrogate_high_alone", r#""\ud83dx""#, "\"\u{fffd}x\""),
    ("n_surrogate_low_alone", r#""\ude00""#, "\"\u{fffd}\""),
    ("n_surrogate_high_twice", r#""\ud83d\ud83d\ude00""#, "\"\u{fffd}😀\""),
    ("n_surrogate_high_then_other", r#""\ud83d\u0041""#, "\"\u{fffd}A\""),
    ("n_surrogate_high_then_escape", r#""\ud83d\n""#, "\"\u{fffd}\\n\""),
];

use ErrorKind::*;

type Refusal = (ErrorKind, usize);

/// What is refused, why and where: first strictly, then leniently.
#[rustfmt::skip]
const NEITHER: &[(&str, &[u8], Refusal, Refusal)] = &[
    ("n_empty", b"", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_blank", b"  ", (ExpectedValue, 2), (ExpectedValue, 2)),
    ("n_bom", "\u{feff}1".as_bytes(), (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_trailing_text", b"1 x", (TrailingText, 2), (TrailingText, 2)),
    ("n_trailing_value", b"[1] 2", (TrailingText, 4), (TrailingText, 4)),
    ("n_trailing_bracket", b"[1]]", (TrailingText, 3), (TrailingText, 3)),
    ("n_comma_at_top", b",1", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_word_short", b"tru", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_word_long", b"nullx", (ExpectedValue, 4), (ExpectedValue, 4)),
    ("n_word_twice", b"[truetrue]", (ExpectedValue, 5), (ExpectedValue, 5)),
    ("n_word_capitals", b"NULL", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_true_capital", b"True", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_plus", b"+5", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_minus_alone", b"-", (BadNumber, 1), (BadNumber, 1)),
    ("n_minus_twice", b"--1", (BadNumber, 1), (BadNumber, 1)),
    ("n_dot_alone", b"[.]", (ExpectedValue, 1), (BadNumber, 2)),
    ("n_dot_exponent", b"[.e1]", (ExpectedValue, 1), (BadNumber, 2)),
    ("n_exponent_missing", b"1e", (BadNumber, 2), (BadNumber, 2)),
    ("n_exponent_sign_only", b"1e+", (BadNumber, 3), (BadNumber, 3)),
    ("n_underscore", b"1_000", (BadNumber, 1), (BadNumber, 1)),
    ("n_two_dots", b"1.2.3", (BadNumber, 3), (BadNumber, 3)),
    ("n_minus_between", b"[1-2]", (BadNumber, 2), (BadNumber, 2)),
    ("n_hex_empty", b"0x", (BadNumber, 1), (BadNumber, 2)),
    ("n_hex_garbage", b"0x1g", (BadNumber, 1), (BadNumber, 3)),
    ("n_binary_garbage", b"0b12", (BadNumber, 1), (BadNumber, 3)),
    ("n_f50_leading_zero", b"010", (LeadingZero, 0), (LeadingZero, 0)),
    ("n_leading_zero_negative", b"-08", (LeadingZero, 1), (LeadingZero, 1)),
    ("n_leading_zero_float", b"00.5", (LeadingZero, 0), (LeadingZero, 0)),
    ("n_string_open", b"\"a", (UnterminatedString, 2), (UnterminatedString, 2)),
    ("n_string_ends_in_backslash", b"\"\\", (UnterminatedString, 2), (UnterminatedString, 2)),
    ("n_string_quote_escaped", b"\"\\\"", (UnterminatedString, 3), (UnterminatedString, 3)),
    ("n_string_single_quotes", b"'a'", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_string_raw_byte", b"\"\xff\"", (InvalidUtf8, 1), (InvalidUtf8, 1)),
    ("n_string_overlong", b"\"\xc0\x80\"", (InvalidUtf8, 1), (InvalidUtf8, 1)),
    ("n_string_raw_surrogate", b"\"\xed\xa0\x80\"", (InvalidUtf8, 1), (InvalidUtf8, 1)),
    ("n_string_cut_character", b"\"\xe2\x82", (InvalidUtf8, 1), (InvalidUtf8, 1)),
    ("n_utf16", b"[\x001\x00]\x00", (ExpectedValue, 1), (ExpectedValue, 1)),
    ("n_escape_u_short", b"\"\\u12\"", (BadEscape, 2), (BadEscape, 2)),
    ("n_escape_u_end", b"\"\\u", (BadEscape, 2), (BadEscape, 2)),
    ("n_escape_u_sign", b"\"\\u+123\"", (BadEscape, 2), (BadEscape, 2)),
    ("n_escape_x_short", b"\"\\x4\"", (BadEscape, 2), (BadEscape, 2)),
    ("n_array_open", b"[1", (ExpectedCommaOrEnd, 2), (ExpectedCommaOrEnd, 2)),
    ("n_array_open_comma", b"[1,", (ExpectedCommaOrEnd, 3), (ExpectedCommaOrEnd, 3)),
    ("n_array_wrong_end", b"[1}", (ExpectedCommaOrEnd, 2), (ExpectedValue, 2)),
    ("n_array_colon", b"[1:2]", (ExpectedCommaOrEnd, 2), (ExpectedValue, 2)),
    ("n_object_wrong_end", b"{]", (ExpectedKey, 1), (ExpectedKey, 1)),
    ("n_object_bare_key", b"{a:1}", (ExpectedKey, 1), (ExpectedKey, 1)),
    ("n_object_number_key", b"{1:1}", (ExpectedKey, 1), (ExpectedKey, 1)),
    ("n_object_no_colon", b"{\"a\" 1}", (ExpectedColon, 5), (ExpectedColon, 5)),
    ("n_object_key_only", b"{\"a\"}", (ExpectedColon, 4), (ExpectedColon, 4)),
    ("n_object_two_colons", b"{\"a\"::1}", (ExpectedValue, 5), (ExpectedValue, 5)),
    ("n_object_open", b"{\"a\":1", (ExpectedCommaOrEnd, 6), (ExpectedCommaOrEnd, 6)),
    ("n_object_open_colon", b"{\"a\":", (ExpectedValue, 5), (ExpectedValue, 5)),
    ("n_slash", b"/", (ExpectedValue, 0), (ExpectedValue, 0)),
    ("n_comment_open", b"1/*", (TrailingText, 1), (UnterminatedComment, 1)),
    ("n_comment_slash_star_slash", b"/*/ 1", (ExpectedValue, 0), (UnterminatedComment, 0)),
    ("n_comment_only", b"# 1", (ExpectedValue, 0), (ExpectedValue, 3)),
    ("n_form_feed", b"[\x0c1]", (ExpectedValue, 1), (ExpectedValue, 1)),
];

fn lenient(text: &str) -> Result<Tree, iodine_codec::json::Error> {
    Tree::parse(text.as_bytes(), &Rules::LENIENT)
}

#[test]
fn documents_that_both_take() {
    for &(name, text, expected) in BOTH {
        for rules in [Rules::STRICT, Rules::LENIENT] {
            let tree = Tree::parse(text.as_bytes(), &rules).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(told(&tree), expected, "{name}");
        }
        check::json(text.as_bytes());
    }
}

#[test]
fn documents_that_only_the_lenient_parser_takes() {
    for &(name, text, expected) in LENIENT_ONLY {
        let tree = lenient(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(told(&tree), expected, "{name}");
        assert!(Tree::parse(text.as_bytes(), &Rules::STRICT).is_err(), "{name}");
        check::json(text.as_bytes());
    }
}

#[test]
fn documents_that_neither_takes() {
    for &(name, text, strict, lenient) in NEITHER {
        for (rules, (kind, offset)) in [(Rules::STRICT, strict), (Rules::LENIENT, lenient)] {
            let error = Tree::parse(text, &rules).expect_err(name);
            assert_eq!((error.kind, error.offset), (kind, offset), "{name}, lenient: {}", rules.lenient);
        }
        check::json(text);
    }
}

#[test]
fn no_document_means_the_same_without_its_end() {
    for &(name, text, _) in BOTH.iter().filter(|(_, text, _)| text.starts_with(['[', '{', '"'])) {
        for end in 0..text.trim_end().len() {
            let cut = &text.as_bytes()[..end];
            for rules in [Rules::STRICT, Rules::LENIENT] {
                assert!(Tree::parse(cut, &rules).is_err(), "{name}, cut at {end}");
            }
        }
    }
}

#[test]
fn f_47_false_is_a_document() {
    assert_eq!(lenient("false"), Ok(Tree::Boolean(false)));
}

#[test]
fn nan_can_be_refused() {
    let rules = Rules { allow_nan: false, ..Rules::LENIENT };
    for text in ["NaN", "[1,nan]", "-Infinity", "inf"] {
        assert_eq!(
            Tree::parse(text.as_bytes(), &rules).map_err(|error| error.kind),
            Err(NanNotAllowed),
            "{text}"
        );
    }
}

#[test]
fn f_50_nesting_is_limited_and_needs_no_stack() {
    let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert!(lenient(&nested(Rules::MAX_NESTING)).is_ok());
    let error = lenient(&nested(Rules::MAX_NESTING + 1)).expect_err("too deep");
    assert_eq!((error.kind, error.offset), (TooDeep, Rules::MAX_NESTING));
    let error = lenient(&"{\"a\":".repeat(1_000_000)).expect_err("too deep");
    assert_eq!(error.kind, TooDeep);

    /// Knows how many arrays there were, and nothing else.
    struct Count(usize);
    #[rustfmt::skip]
    impl Builder for Count {
        fn null(&mut self) {}
        fn boolean(&mut self, _: bool) {}
        fn integer(&mut self, _: i64) {}
        fn big_integer(&mut self, _: bool, _: &[u8], _: u32) {}
        fn float(&mut self, _: f64) {}
        fn string(&mut self, _: Text<'_>) {}
        fn key(&mut self, _: Text<'_>) {}
        fn array(&mut self, _: usize) { self.0 += 1; }
        fn object(&mut self, _: usize) {}
    }
    let mut count = Count(0);
    let rules = Rules { max_nesting: usize::MAX, ..Rules::STRICT };
    let mut scratch = Scratch::default();
    assert!(parse(nested(1_000_000).as_bytes(), &rules, &mut scratch, &mut count).is_ok());
    assert_eq!(count.0, 1_000_000);
    scratch.trim(1024);
    assert!(parse(b"[]", &rules, &mut scratch, &mut count).is_ok(), "the scratch can be used again");
}

#[test]
fn integers_have_a_limit_of_digits() {
    let digits = |count: usize| "9".repeat(count);
    assert!(lenient(&digits(Rules::MAX_DIGITS)).is_ok());
    for text in
        [digits(Rules::MAX_DIGITS + 1), format!("-{}", digits(1_000_000)), format!("0x{}", digits(1_000_000))]
    {
        assert_eq!(lenient(&text).map_err(|error| error.kind), Err(TooManyDigits));
    }
    assert_eq!(lenient(&format!("0.{}", digits(1_000_000))), Ok(Tree::Float(1.0)));
}

/// Texts that make parsers look at the same bytes again and again. A quadratic parser would not come back from them in
/// hours, so there is nothing to assert.
#[test]
fn hostile_texts_take_linear_time() {
    let size = 1_000_000;
    for (opening, repeated, closing) in [
        ("", "[", ""),
        ("[", ",", "]"),
        ("[", "/**/", "]"),
        ("[", "/*", "]"),
        ("[", "#\n", "]"),
        ("[", "/", "]"),
        ("\"", "\\u", "\""),
        ("\"", "\\ud83d", "\""),
        ("\"", "\\", "\""),
        ("[", "\"\\n\"", "]"),
        ("{", "\"\":", "}"),
        ("{", "\"a\":,", "}"),
        ("[", "1e", "]"),
        ("1.", "0", "e-1000000"),
        ("", " ", ""),
        ("[", "nul", "]"),
        ("[", "-", "]"),
    ] {
        let text = [opening.to_string(), repeated.repeat(size), closing.to_string()].concat();
        check::json(text.as_bytes());
    }
}

fn from_serde(value: &serde_json::Value) -> Tree {
    use serde_json::Value;
    match value {
        Value::Null => Tree::Null,
        Value::Bool(value) => Tree::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Tree::Integer(value),
            (None, Some(value)) => Tree::BigInteger(value.to_string(), 10),
            _ => Tree::Float(number.as_f64().expect("a number is a float at least")),
        },
        Value::String(text) => Tree::Text(text.clone().into_bytes()),
        Value::Array(items) => Tree::Array(items.iter().map(from_serde).collect()),
        Value::Object(members) => {
            let member =
                |(key, value): (&String, _)| (Tree::Text(key.clone().into_bytes()), from_serde(value));
            Tree::Object(members.iter().map(member).collect())
        }
    }
}

/// As serde_json tells it: of equal keys the last one counts, keys are sorted, and -0 is a float.
fn as_serde(tree: Tree) -> Tree {
    match tree {
        Tree::Array(items) => Tree::Array(items.into_iter().map(as_serde).collect()),
        Tree::Object(members) => {
            let mut sorted = std::collections::BTreeMap::new();
            for (key, value) in members {
                let Tree::Text(key) = key else { panic!("a key is text") };
                sorted.insert(key, as_serde(value));
            }
            Tree::Object(sorted.into_iter().map(|(key, value)| (Tree::Text(key), value)).collect())
        }
        Tree::BigInteger(digits, 10) if digits.parse::<u64>().is_err() => {
            Tree::Float(digits.parse().expect("digits are a float, too"))
        }
        Tree::Integer(0) => Tree::Float(0.0),
        Tree::Float(0.0) => Tree::Float(0.0),
        other => other,
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let text =
        prop_oneof![any::<String>().prop_map(String::into_bytes), "[a-z]{0,20}".prop_map(String::into_bytes)];
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Boolean),
        any::<i64>().prop_map(Tree::Integer),
        (-100i64..100).prop_map(Tree::Integer),
        "-?[1-9][0-9]{19,60}".prop_map(|digits| Tree::BigInteger(digits, 10)),
        any::<f64>().prop_filter("JSON has no others", |value| value.is_finite()).prop_map(Tree::Float),
        text.clone().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let member = (text.clone().prop_map(Tree::Text), inner.clone());
        prop_oneof![vec(inner, 0..8).prop_map(Tree::Array), vec(member, 0..8).prop_map(Tree::Object)]
    })
}

/// Pieces from which nearly JSON is made.
const PIECES: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"b\":",
    "\\",
    "\\n",
    "\\u00e9",
    "\\ud83d",
    "\\ude00",
    "1",
    "0",
    "-",
    ".",
    "e",
    "E+5",
    "12345678901234567890",
    "0.1",
    "true",
    "false",
    "null",
    "NaN",
    "Infinity",
    " ",
    "\n",
    "\u{1}",
    "é",
    "/*",
    "*/",
    "//",
    "#",
    "x",
];

proptest! {
    #[test]
    fn what_is_written_is_read(tree in any_tree()) {
        let mut text = Vec::new();
        prop_assert!(tree.write(&mut text).is_some());
        prop_assert_eq!(Tree::parse(&text, &Rules::STRICT), Ok(tree));
        check::json(&text);
    }

    #[test]
    fn serde_json_reads_the_same(tree in any_tree()) {
        let mut text = Vec::new();
        prop_assert!(tree.write(&mut text).is_some());
        let value: serde_json::Value = serde_json::from_slice(&text).expect("serde_json takes it");
        prop_assert_eq!(as_serde(from_serde(&value)), as_serde(tree));
        // And the other way round, in serde_json's own hand.
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("it can be written")] {
            let again = Tree::parse(text.as_bytes(), &Rules::STRICT).expect("we take it");
            prop_assert_eq!(as_serde(again), as_serde(from_serde(&value)));
        }
    }

    #[test]
    fn serde_json_takes_and_refuses_the_same(pieces in vec(select(PIECES), 0..12)) {
        let text = pieces.concat();
        check::json(text.as_bytes());
        let ours = Tree::parse(text.as_bytes(), &Rules::STRICT);
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(value) => prop_assert_eq!(ours.map(as_serde), Ok(as_serde(from_serde(&value)))),
            // To serde_json a number too large is an error, to us it is infinite.
            Err(error) if error.to_string().starts_with("number out of range") => prop_assert!(ours.is_ok()),
            Err(error) => prop_assert!(ours.is_err(), "{text}: {error}"),
        }
    }

    #[test]
    fn floats_are_read_as_by_the_standard_library(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][-+]?[0-9]{1,3})?") {
        let expected: f64 = text.parse().expect("a float");
        match Tree::parse(text.as_bytes(), &Rules::STRICT) {
            Ok(Tree::Float(value)) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
            Ok(Tree::Integer(value)) => prop_assert_eq!(value as f64, expected),
            Ok(Tree::BigInteger(digits, 10)) => prop_assert_eq!(digits, text),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn any_bytes_hold_the_invariants(data in vec(any::<u8>(), 0..200)) {
        check::json(&data);
        check::percent(&data);
    }
}
