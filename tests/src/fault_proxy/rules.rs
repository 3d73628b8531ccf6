//! Rules: which requests get which fault.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Uri};

use super::fault::Fault;
use super::log::SeenRequest;

type Predicate = Arc<dyn Fn(&Method, &Uri) -> bool + Send + Sync>;

/// Which requests a rule is for. All conditions must hold.
#[derive(Clone, Default)]
pub struct When {
    conditions: Vec<Predicate>,
    skip: u64,
    times: Option<u64>,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of this method.
    pub fn method(method: &str) -> Self {
        Self::any().and_method(method)
    }

    /// ... of this method.
    pub fn and_method(self, method: &str) -> Self {
        let wanted = method.to_owned();
        self.and(move |method, _| method.as_str() == wanted)
    }

    /// ... whose path (`/bucket/key`, still percent-encoded) contains this text.
    pub fn path_contains(self, text: &str) -> Self {
        let text = text.to_owned();
        self.and(move |_, uri| uri.path().contains(&text))
    }

    /// ... whose query (`uploadId=...`) contains this text.
    pub fn query_contains(self, text: &str) -> Self {
        let text = text.to_owned();
        self.and(move |_, uri| uri.query().unwrap_or_default().contains(&text))
    }

    /// ... for which this is true.
    pub fn and(mut self, condition: impl Fn(&Method, &Uri) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// The first `count` requests that match go through unharmed.
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// The rule ends after `count` requests.
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    fn matches(&self, method: &Method, uri: &Uri) -> bool {
        self.conditions.iter().all(|condition| condition(method, uri))
    }

    pub(super) fn matches_seen(&self, seen: &SeenRequest) -> bool {
        self.matches(&seen.method, &seen.uri)
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("conditions", &self.conditions.len())
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish()
    }
}

/// Names a rule, to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

#[derive(Debug)]
struct Rule {
    id: RuleId,
    when: When,
    fault: Fault,
    matched: u64,
}

impl Rule {
    /// Whether the rule strikes this request. Counts it if it matches.
    fn strikes(&mut self, method: &Method, uri: &Uri) -> bool {
        if !self.when.matches(method, uri) {
            return false;
        }
        self.matched += 1;
        let used = self.matched.saturating_sub(self.when.skip);
        used > 0 && self.when.times.is_none_or(|times| used <= times)
    }
}

/// What is to be done with one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How long it waits first.
    pub latency: Duration,
    /// What goes wrong then, if anything.
    pub fault: Option<Fault>,
}

/// All rules, in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    last_id: u64,
}

impl Rules {
    pub(super) fn add(&mut self, when: When, fault: Fault) -> RuleId {
        self.last_id += 1;
        let id = RuleId(self.last_id);
        self.rules.push(Rule { id, when, fault, matched: 0 });
        id
    }

    pub(super) fn remove(&mut self, id: RuleId) {
        self.rules.retain(|rule| rule.id != id);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Asks the rules in order; stops at the first that is not a latency.
    pub(super) fn judge(&mut self, method: &Method, uri: &Uri) -> Verdict {
        let mut verdict = Verdict::default();
        for rule in &mut self.rules {
            if !rule.strikes(method, uri) {
                continue;
            }
            match &rule.fault {
                Fault::Latency(latency) => verdict.latency += *latency,
                fault => {
                    verdict.fault = Some(fault.clone());
                    break;
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rules: &mut Rules, method: &Method, path: &str) -> Verdict {
        rules.judge(method, &path.parse().unwrap())
    }

    #[test]
    fn conditions_are_all_asked() {
        let mut rules = Rules::default();
        rules.add(When::method("PUT").path_contains("/packs/").query_contains("partNumber"), Fault::Cut);
        let struck = |rules: &mut Rules, method, path| judge(rules, method, path).fault.is_some();
        assert!(struck(&mut rules, &Method::PUT, "/b/packs/1?partNumber=2"));
        assert!(!struck(&mut rules, &Method::GET, "/b/packs/1?partNumber=2"));
        assert!(!struck(&mut rules, &Method::PUT, "/b/other/1?partNumber=2"));
        assert!(!struck(&mut rules, &Method::PUT, "/b/packs/1"));
    }

    #[test]
    fn skip_and_times_bound_a_rule() {
        let mut rules = Rules::default();
        rules.add(When::any().skip(1).times(2), Fault::SlowDown);
        let struck: Vec<bool> =
            (0..5).map(|_| judge(&mut rules, &Method::GET, "/b/k").fault.is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
    }

    #[test]
    fn latencies_add_up_and_the_first_fault_wins() {
        let mut rules = Rules::default();
        let second = Duration::from_secs(1);
        let first = rules.add(When::any(), Fault::Latency(second));
        rules.add(When::any(), Fault::Latency(second));
        let cut = rules.add(When::any(), Fault::Cut);
        rules.add(When::any(), Fault::SlowDown);
        let verdict = judge(&mut rules, &Method::GET, "/");
        assert_eq!(verdict, Verdict { latency: 2 * second, fault: Some(Fault::Cut) });
        rules.remove(first);
        rules.remove(cut);
        let verdict = judge(&mut rules, &Method::GET, "/");
        assert_eq!(verdict, Verdict { latency: second, fault: Some(Fault::SlowDown) });
        rules.clear();
        assert_eq!(judge(&mut rules, &Method::GET, "/"), Verdict::default());
    }
}
