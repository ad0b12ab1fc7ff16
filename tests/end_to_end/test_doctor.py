"""A whole installation that is well gets a clean bill of health."""

from shoppable.cli.doctor.connection import Access
from shoppable.cli.doctor.examination import examine_all
from shoppable.cli.doctor.findings import Severity


async def test_the_doctor_finds_nothing_wrong_with_a_suite_that_works(suite):
    findings = await examine_all(suite.endpoints, Access())
    assert [finding for finding in findings if finding.severity is not Severity.OK] == []
    assert {finding.code for finding in findings} == {
        "REACHED", "SERVING", "DECODER_ANSWERS", "MODELS_READY", "CATALOGS_MATCH",
    }  # fmt: skip
