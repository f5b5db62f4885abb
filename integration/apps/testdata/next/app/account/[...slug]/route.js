// Says who asks, by a cookie or by what a proxy in front has found out, and nothing
// about caching.
export async function GET(request, { params }) {
  const who = request.cookies.get("session")?.value ?? request.headers.get("x-webauth-user") ?? "nobody";
  const { slug } = await params;
  return new Response(`account of ${who} at ${slug.join("|")}`, { headers: { "Content-Type": "text/html" } });
}
