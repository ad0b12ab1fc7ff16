"""Who calls, and what they may do: API keys, JSON web tokens and client certificates; rights and quotas."""
