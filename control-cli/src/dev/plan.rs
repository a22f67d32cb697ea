//! What a development site consists of, decided from the arguments alone.

use std::path::{Path, PathBuf};

use fleet_state::{IdError, SiteName};
use thiserror::Error;

/// Most agents of one development site: more than that measures the machine, not the site.
pub(crate) const AGENTS_MAX: u8 = 9;
/// The name of a site that was given none.
pub(crate) const SITE_DEFAULT: &str = "home";
/// How many agents a site has that was not told.
pub(crate) const AGENTS_DEFAULT: u8 = 3;
/// Most voters that a site may have.
const VOTERS_MAX: u8 = 7;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// `None`: as it was before, else [`SITE_DEFAULT`].
    pub(crate) site: Option<SiteName>,
    /// `None`: as many as before, else [`AGENTS_DEFAULT`].
    pub(crate) agents: Option<u8>,
    /// `None`: as many as there are agents, or one less to make the number odd.
    pub(crate) voters: Option<u8>,
}

/// What is known of an earlier start on the same folder.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    pub(crate) site: SiteName,
    pub(crate) agents: u8,
}

/// A request that makes no site.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum PlanError {
    #[error("--agents is {0}; a development site has 1 to {AGENTS_MAX} agents")]
    Agents(u8),
    #[error(
        "--voters is {voters}; it must be odd, at most {VOTERS_MAX} and at most the number of agents, {agents}"
    )]
    Voters { voters: u8, agents: u8 },
    #[error("this folder holds site {0}; leave --site out, or use another --data")]
    OtherSite(SiteName),
    #[error("--site: {0}")]
    Site(String),
}

/// Names, folders and numbers of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) site: SiteName,
    pub(crate) voters: u8,
    /// In the order in which they start; the first one makes the site.
    pub(crate) agents: Vec<AgentPlan>,
    root: PathBuf,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentPlan {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
}

impl Plan {
    /// The site `wanted` below the folder `root`, where there may have been one before.
    pub(crate) fn new(
        wanted: &Wanted,
        earlier: Option<&Earlier>,
        root: &Path,
    ) -> Result<Self, PlanError> {
        let site = site(wanted.site.as_ref(), earlier)?;
        let agents_before = earlier.map(|earlier| earlier.agents);
        let agents = wanted.agents.or(agents_before).unwrap_or(AGENTS_DEFAULT);
        if agents == 0 || agents > AGENTS_MAX {
            return Err(PlanError::Agents(agents));
        }
        let voters = wanted.voters.unwrap_or_else(|| default_voters(agents));
        if voters.is_multiple_of(2) || voters > VOTERS_MAX || voters > agents {
            return Err(PlanError::Voters { voters, agents });
        }
        let agents = (1..=agents)
            .map(|number| {
                let name = format!("n{number}");
                AgentPlan {
                    data_dir: root.join(&name),
                    log: root.join("logs").join(format!("{name}.log")),
                    name,
                }
            })
            .collect();
        Ok(Self { site, voters, agents, root: root.to_path_buf() })
    }

    /// What nats-server writes: its ports.
    pub(crate) fn nats_dir(&self) -> PathBuf {
        self.root.join("nats")
    }

    /// What nats-server says.
    pub(crate) fn nats_log(&self) -> PathBuf {
        self.logs_dir().join("nats-server.log")
    }

    /// What everybody says.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }
}

fn site(wanted: Option<&SiteName>, earlier: Option<&Earlier>) -> Result<SiteName, PlanError> {
    match (wanted, earlier) {
        (Some(wanted), Some(earlier)) if *wanted != earlier.site => {
            Err(PlanError::OtherSite(earlier.site.clone()))
        }
        (_, Some(earlier)) => Ok(earlier.site.clone()),
        (Some(wanted), None) => Ok(wanted.clone()),
        (None, None) => {
            SITE_DEFAULT.parse().map_err(|error: IdError| PlanError::Site(error.to_string()))
        }
    }
}

/// The largest odd number of voters among so many agents.
fn default_voters(agents: u8) -> u8 {
    let odd = if agents.is_multiple_of(2) { agents.saturating_sub(1) } else { agents };
    odd.min(VOTERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(agents: u8, voters: Option<u8>) -> Result<Plan, PlanError> {
        let wanted = Wanted { site: None, agents: Some(agents), voters };
        Plan::new(&wanted, None, Path::new("/x"))
    }

    #[test]
    fn the_default_number_of_voters_is_the_largest_odd_one() {
        let got: Vec<u8> = (1..=AGENTS_MAX).map(|it| plan(it, None).unwrap().voters).collect();
        assert_eq!(got, [1, 1, 3, 3, 5, 5, 7, 7, 7]);
    }

    #[test]
    fn numbers_that_make_no_site_are_refused() {
        assert_eq!(plan(0, None), Err(PlanError::Agents(0)));
        assert_eq!(plan(AGENTS_MAX + 1, None), Err(PlanError::Agents(AGENTS_MAX + 1)));
        for (agents, voters) in [(3, 2), (3, 5), (9, 9), (3, 0)] {
            assert_eq!(plan(agents, Some(voters)), Err(PlanError::Voters { voters, agents }));
        }
        assert!(plan(3, Some(1)).is_ok());
    }

    #[test]
    fn every_agent_has_a_folder_of_its_own() {
        let plan = plan(3, None).unwrap();
        let folders: Vec<_> = plan.agents.iter().map(|agent| agent.data_dir.clone()).collect();
        assert_eq!(folders, [Path::new("/x/n1"), Path::new("/x/n2"), Path::new("/x/n3")]);
    }

    #[test]
    fn a_second_start_goes_on_with_what_was_there() {
        let earlier = Earlier { site: "ship".parse().unwrap(), agents: 5 };
        let again = Plan::new(&Wanted::default(), Some(&earlier), Path::new("/x")).unwrap();
        assert_eq!((again.site.as_ref(), again.agents.len()), ("ship", 5));
        let other = Wanted { site: Some("home".parse().unwrap()), ..Wanted::default() };
        let refused = Plan::new(&other, Some(&earlier), Path::new("/x"));
        assert_eq!(refused, Err(PlanError::OtherSite(earlier.site)));
    }
}
