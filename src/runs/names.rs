//! Short names of runs.

/// Names of runs without what all of them have in common: the folders above, and the parts between commas that are the same.
pub(crate) fn short_names(runs: &[&str]) -> Vec<String> {
    let paths: Vec<Vec<&str>> = runs.iter().map(|run| run.split('/').filter(|part| !part.is_empty()).collect()).collect();
    let least = paths.iter().map(Vec::len).min().unwrap_or(0);
    let common = (0..least.saturating_sub(1)).take_while(|at| paths.iter().all(|path| path[*at] == paths[0][*at])).count();
    let names: Vec<String> = paths.iter().map(|path| path[common..].join("/")).collect();
    let parts: Vec<Vec<&str>> = names.iter().map(|name| name.split(',').collect()).collect();
    let same = |at: usize| parts.iter().all(|other| other[at] == parts[0][at]);
    if runs.len() < 2 || parts.iter().any(|other| other.len() != parts[0].len()) || (0..parts[0].len()).all(same) {
        return names;
    }
    let differing = |name: &Vec<&str>| (0..name.len()).filter(|at| !same(*at)).map(|at| name[at]).collect::<Vec<_>>().join(",");
    parts.iter().map(differing).collect()
}

/// Last part of a key, if no other one has the same, else the whole key.
pub(super) fn short_key<'k>(key: &'k str, others: &[&str]) -> &'k str {
    let leaf = |key: &'k str| key.rsplit('.').next().unwrap_or(key);
    let shared = others.iter().filter(|other| **other != key && other.rsplit('.').next() == Some(leaf(key))).count();
    if shared == 0 { leaf(key) } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_names_have_in_common_is_left_out() {
        assert_eq!(short_names(&["/a/runs/x", "/a/runs/y/"]), ["x", "y"]);
        assert_eq!(short_names(&["runs/x/one", "runs/y/one"]), ["x/one", "y/one"]);
        assert_eq!(short_names(&["s/lr=1,batch=8,seed=1", "s/lr=2,batch=8,seed=1"]), ["lr=1", "lr=2"]);
        assert_eq!(short_names(&["s/lr=1,seed=1", "s/other"]), ["lr=1,seed=1", "other"]);
        assert_eq!(short_names(&["a/b"]), ["b"]);
        assert_eq!(short_names(&["a", "a"]), ["a", "a"]);
        assert!(short_names(&[]).is_empty());
    }

    #[test]
    fn a_key_is_named_by_its_end_where_that_is_enough() {
        assert_eq!(short_key("optimizer.learning_rate", &["train.seed", "optimizer.learning_rate"]), "learning_rate");
        assert_eq!(short_key("train.epochs", &["train.epochs", "best epoch", "epochs"]), "train.epochs");
        assert_eq!(short_key("data.seed", &["train.seed", "data.seed"]), "data.seed");
    }
}
