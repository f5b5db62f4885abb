export function GET() {
  return new Response("static", { headers: { "Content-Type": "text/plain" } });
}
export const dynamic = "force-dynamic";
