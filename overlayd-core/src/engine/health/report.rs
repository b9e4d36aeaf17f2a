//! What came of a start or of a reconcile pass.

use crate::{
    contract::{Finding, FindingCode, FindingSubject, Severity},
    engine::Error,
};

/// Which steps ran, and what each could not do.
#[derive(Debug, Default)]
pub(in crate::engine) struct PassReport {
    steps: Vec<&'static str>,
    findings: Vec<Finding>,
}

/// Something that a step could not do.
#[derive(Debug)]
pub(in crate::engine) struct StepFailure {
    /// What kind of finding it is for an operator.
    pub(in crate::engine) code: FindingCode,
    pub(in crate::engine) subject: FindingSubject,
    pub(in crate::engine) text: String,
}

impl StepFailure {
    /// About a step as a whole.
    pub(in crate::engine) fn of_step(error: &Error) -> Self {
        Self { code: FindingCode::ReconcileFailed, subject: FindingSubject::Host, text: error.to_string() }
    }
}

impl PassReport {
    /// Notes that a step ran, and what it could not do, which is logged here and nowhere else.
    pub(in crate::engine) fn note(&mut self, step: &'static str, failures: Vec<StepFailure>) {
        self.steps.push(step);
        for StepFailure { code, subject, text } in failures {
            // Each pass says it again, so that the end of a log is enough to see what is wrong now.
            tracing::warn!(step, %subject, error = text, "could not be reconciled; the next pass tries again");
            self.findings.push(Finding {
                code,
                severity: Severity::Error,
                subject,
                text: format!("{step}: {text}"),
                remedy: "remove the cause; the daemon tries again by itself".into(),
            });
        }
    }

    /// Whether the host is as asked for.
    pub(in crate::engine) fn is_in_line(&self) -> bool {
        self.findings.is_empty()
    }

    /// What could not be done.
    pub(in crate::engine) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The steps that ran, in their order.
    pub(in crate::engine) fn steps(&self) -> &[&'static str] {
        &self.steps
    }
}
