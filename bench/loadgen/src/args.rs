//! The command line: pairs of `--name value`. Also the one way out when something is wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

pub struct Args {
    values: HashMap<String, String>,
}

impl Args {
    pub fn parse(argv: &[String]) -> Args {
        let mut values = HashMap::new();
        for pair in argv.chunks(2) {
            let Some(name) = pair[0].strip_prefix("--") else {
                fail(&format!("unexpected argument {:?}", pair[0]))
            };
            let Some(value) = pair.get(1) else { fail(&format!("--{name} needs a value")) };
            values.insert(name.to_string(), value.clone());
        }
        Args { values }
    }

    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.values.get(name).map_or(default, String::as_str)
    }

    pub fn number<T: FromStr>(&self, name: &str, default: T) -> T {
        match self.values.get(name) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| fail(&format!("--{name}: bad value {text:?}"))),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.number("addr", SocketAddr::from(([127, 0, 0, 1], 4200)))
    }

    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.number("duration", 5.0))
    }
}

pub fn fail(message: &str) -> ! {
    eprintln!("loadgen: {message}");
    std::process::exit(2)
}
