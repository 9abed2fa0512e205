"""A branch followed, a rollback written back, GitLab informed."""
