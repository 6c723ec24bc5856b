"""Who the pods are: one file per source, one interface (`base.Discovery`)."""
