// A counter: whoever reads it sees how often the mutation has run.
let count = 0;

export const typeDefs = /* GraphQL */ `
  type Query {
    count: Int!
    fails: Int
  }
  type Mutation {
    increment(by: Int = 1): Int!
  }
`;

export const resolvers = {
  Query: {
    count: () => count,
    fails: () => { throw new Error("this field always fails"); },
  },
  Mutation: { increment: (_, { by }) => (count += by) },
};
