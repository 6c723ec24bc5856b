"""Discovery of pods: one file per source, one interface (`base.Discovery`)."""
