// @tus/server with its file store, or with its S3 store where BENCH_S3 tells of one:
// node tus_server.mjs PORT DIRECTORY
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

// Modules are looked up from the harness's cache, where npm has put them.
const require = createRequire(process.env.BENCH_NODE + '/')
const load = (name) => import(pathToFileURL(require.resolve(name)).href)
const { Server } = await load('@tus/server')

const [port, directory] = process.argv.slice(2)

async function store() {
  if (!process.env.BENCH_S3) {
    const { FileStore } = await load('@tus/file-store')
    return new FileStore({ directory })
  }
  const { S3Store } = await load('@tus/s3-store')
  const told = JSON.parse(process.env.BENCH_S3)
  return new S3Store({
    partSize: told.part_size,
    s3ClientConfig: {
      bucket: told.bucket,
      endpoint: told.endpoint_url,
      region: told.region,
      forcePathStyle: told.path_style,
      credentials: { accessKeyId: told.access_key, secretAccessKey: told.secret_key },
    },
  })
}

const server = new Server({
  path: '/uploads',
  datastore: await store(),
  relativeLocation: true,
})
server.listen({ host: '127.0.0.1', port: Number(port) })
