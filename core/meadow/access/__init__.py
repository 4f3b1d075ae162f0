"""Who may do what: what web, api and controller share of security."""
