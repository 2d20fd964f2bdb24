#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod judgements;
mod setups;

use std::collections::HashMap;
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use skerry_remote::http::{Resolve, Service};

use super::*;

/// 2026-11-21.
const NOW_MS: u64 = 1_795_219_200_000;

/// Knows a few names and nothing else.
struct Names(HashMap<String, Vec<IpAddr>>);

impl Resolve for Names {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        let found = self.0.get(name).cloned();
        Box::pin(async move { found.ok_or_else(|| "no such name".to_owned()) })
    }

    fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn tools(names: &[(&str, &str)]) -> Tools {
    let names = names
        .iter()
        .map(|(name, list)| {
            let list = list.split(' ').map(|address| address.parse().unwrap());
            ((*name).to_owned(), list.collect())
        })
        .collect();
    Tools::with(Arc::new(Names(names)), Tls::new(None).unwrap(), NOW_MS).unwrap()
}

fn config(text: &str) -> Config {
    Config::from_text(text, std::iter::empty()).unwrap()
}

/// All that is found, as lines.
async fn findings(config: &Config, tools: &Tools) -> Vec<Finding> {
    let mut found = Vec::new();
    examine(config, tools, None, &mut |finding| found.push(finding)).await;
    found
}

/// The one finding of a check, which has to contain the text.
fn the<'a>(found: &'a [Finding], check: &str, text: &str) -> &'a Finding {
    let mut fitting = found
        .iter()
        .filter(|f| f.check == check && f.line().contains(text));
    let Some(one) = fitting.next() else {
        let lines: Vec<String> = found.iter().map(Finding::line).collect();
        panic!("no {check} with {text:?} in\n{}", lines.join("\n"));
    };
    one
}
