"""`rethink-fast compare OLD NEW`: two records, a record and a folder of them, or two revisions, interleaved.

statistics   samples -> median ratio, its interval, verdict          pure functions
figures      a JSON file -> what it measured, and under what conditions
records      two of those -> comparison, or the reason why not       history  a record and the last ones like it
revisions    two git revisions -> worktrees, builds, two workers -> pairs -> comparison
view         a comparison as table, JSON and Markdown
"""
