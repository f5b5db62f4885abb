// Rendered when the application is built: Next.js answers it with a bare s-maxage,
// although proxy.js lets members alone see it.
export default function Members() {
  return <h1>for members only</h1>;
}
