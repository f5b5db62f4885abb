import { NextResponse } from "next/server";

export function proxy(request) {
  if (!request.cookies.has("session")) {
    return NextResponse.redirect(new URL("/", request.url), 307);
  }
  return NextResponse.next();
}

export const config = { matcher: "/members" };
