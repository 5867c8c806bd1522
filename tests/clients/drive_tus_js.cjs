// Drives tus-js-client: node drive_tus_js.cjs SCENARIO URL FILE. Prints a line of JSON.
'use strict'
const fs = require('node:fs')
const path = require('node:path')
const { PassThrough } = require('node:stream')

const tus = require(process.env.TUS_JS_CLIENT_DIR)
const [, , scenario, endpoint, file] = process.argv
const size = fs.statSync(file).size

const scenarios = {
  buffer: () => [fs.readFileSync(file), {}],
  chunks: () => [fs.readFileSync(file), { chunkSize: 1 << 20 }],
  stream: () => [fs.createReadStream(file), { chunkSize: 1 << 20, uploadSize: size }],
  // Through a pipe: of a file that it can look at, the client announces too long a body.
  deferred: () => [
    fs.createReadStream(file).pipe(new PassThrough()),
    { chunkSize: 1 << 20, uploadLengthDeferred: true },
  ],
  parallel: () => [fs.createReadStream(file), { parallelUploads: 4 }],
  override: () => [
    fs.readFileSync(file),
    { chunkSize: 1 << 20, overridePatchMethod: true },
  ],
  withData: () => [fs.readFileSync(file), { uploadDataDuringCreation: true }],
  // Slow enough to be killed in the middle; the retries are the client's own.
  retry: () => [fs.readFileSync(file), { chunkSize: 256 << 10 }],
}

const [input, options] = scenarios[scenario]()
let errors = 0
const methods = new Set()
const upload = new tus.Upload(input, {
  endpoint,
  metadata: { filename: path.basename(file), filetype: 'application/octet-stream' },
  retryDelays: [100, 300, 1000, 2000, 3000, 5000],
  onShouldRetry: () => {
    errors += 1
    return true
  },
  onBeforeRequest: (request) => {
    methods.add(request.getMethod())
  },
  onChunkComplete: (_, accepted) => {
    if (scenario === 'retry') console.error(`accepted ${accepted}`)
  },
  onSuccess: () =>
    console.log(JSON.stringify({ url: upload.url, errors, methods: [...methods] })),
  onError: (error) => {
    console.log(JSON.stringify({ error: String(error) }))
    process.exit(1)
  },
  ...options,
})
upload.start()
