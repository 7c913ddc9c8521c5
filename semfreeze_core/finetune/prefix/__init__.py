"""The boundary states of frozen layers: computed once per example, stored, verified, and trained from."""
