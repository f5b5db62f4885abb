package harness

// GuideCache declares some of the namespaces of the example, with exact lifetimes.
const GuideCache = `
	namespace user {
		ttl 1h
		jitter 0
	}
	namespace pickup {
		ttl 5m
		jitter 0
	}
	namespace points {
		ttl 5m
		jitter 0
	}`

const GuideSite = `
	redis_cache /api/v1/users/* user
	redis_cache /api/v1/pickups/* pickup
	redis_cache /api/v1/points/* points`
