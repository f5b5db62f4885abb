// Package graphql finds out whether a request is one for a GraphQL server and what it
// would have that server do, and whether an answer tells of errors. It is pure.
//
// What it reads comes from clients and upstreams: every function takes any input, and
// time linear in its length.
package graphql
