export default function Home() {
  return <h1>open to all</h1>;
}
