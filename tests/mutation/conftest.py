"""After the run: how many of the revived bugs were caught."""


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
               if report.when == "call" and ("caught", True) in report.user_properties or ("caught", False) in report.user_properties]
    if reports:
        from tests.mutation.bugs import BUGS, LATER
        caught = sum(("caught", True) in report.user_properties for report in reports)
        terminalreporter.write_line(f"{caught} of {len(reports)} caught" + (f" ({len(BUGS)} in all)" if len(reports) < len(BUGS) else ""))
        for bug, method in LATER.items():
            terminalreporter.write_line(f"not yet applicable, for want of {method}: {bug}")
