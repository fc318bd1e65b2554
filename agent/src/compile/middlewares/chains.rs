//! `chain`: whoever names one runs its members.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use constellation_config::dynamic;
use constellation_middleware::Middleware;

use super::{Entry, find};
use crate::compile::names;

/// Most middlewares that one router runs. More are a mistake: each one costs every request.
pub(super) const MAX_MEMBERS: usize = 100;

/// A chain that is still to be resolved.
type Chain<'a> = (Arc<str>, &'a str, &'a Arc<dynamic::Middleware>);

/// Adds what each chain stands for to `entries`, where everything else is already.
pub(super) fn resolve(chains: &[Chain<'_>], entries: &mut BTreeMap<Arc<str>, Entry>) {
    let by_name: HashMap<&str, &Chain<'_>> = chains.iter().map(|chain| (&*chain.0, chain)).collect();
    for chain in chains {
        walk(chain, &by_name, entries, &mut Vec::new());
    }
}

/// Resolves one chain after those that it names. `above`: the chains that led here.
fn walk(
    chain: &Chain<'_>,
    by_name: &HashMap<&str, &Chain<'_>>,
    entries: &mut BTreeMap<Arc<str>, Entry>,
    above: &mut Vec<Arc<str>>,
) {
    let (qualified, provider, definition) = chain;
    if entries.contains_key(qualified) {
        return;
    }
    above.push(qualified.clone());
    let references = definition
        .chain
        .as_ref()
        .map(|chain| chain.middlewares.as_slice());
    let outcome = members(references.unwrap_or_default(), provider, by_name, entries, above);
    above.pop();
    let entry = Entry {
        definition: (*definition).clone(),
        service: None,
        outcome,
        warnings: Vec::new(),
    };
    entries.insert(qualified.clone(), entry);
}

fn members(
    references: &[String],
    provider: &str,
    by_name: &HashMap<&str, &Chain<'_>>,
    entries: &mut BTreeMap<Arc<str>, Entry>,
    above: &mut Vec<Arc<str>>,
) -> Result<Vec<Arc<Middleware>>, String> {
    let mut members = Vec::new();
    for reference in references {
        let (name, owner) = names::split_reference(reference, provider);
        let qualified = names::qualify(name, owner);
        if above.contains(&qualified) {
            let round: Vec<&str> = above.iter().map(AsRef::as_ref).chain([&*qualified]).collect();
            return Err(format!(
                "it goes round in circles ({}): take one out",
                round.join(" names ")
            ));
        }
        if above.len() >= MAX_MEMBERS {
            return Err(format!(
                "chains name each other over more than {MAX_MEMBERS} steps: flatten them"
            ));
        }
        if let Some(inner) = by_name.get(&*qualified) {
            walk(inner, by_name, entries, above);
        }
        members.extend(find(entries, reference, provider)?.iter().cloned());
        if members.len() > MAX_MEMBERS {
            return Err(format!("it has more than {MAX_MEMBERS} members: take some out"));
        }
    }
    Ok(members)
}
