"""`rethink-fast compare OLD NEW`: two records, a record and the history, or two revisions timed by turns.

statistics   samples -> median ratio, its interval, verdict          pure functions
figures      a JSON file -> what it measured, and under what conditions
records      two of those -> comparison, or the reason why not       history  many of them: the last step, a chart
over_time    a folder of records -> what the report says of them: every figure, its last step, its chart
revisions    two git revisions -> worktrees, builds, two workers -> pairs -> comparison
view         a comparison as table, JSON and Markdown
"""
