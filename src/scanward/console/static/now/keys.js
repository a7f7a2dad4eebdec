// An operator's key: from the PEM file that `scanward keys new` wrote to a key that signs and cannot be taken out.
//
// PKCS#8 (RFC 5958) as it is, or with a passphrase under PBES2 (RFC 8018): PBKDF2 with HMAC-SHA, AES-CBC. That is what
// OpenSSL writes. Everything is done by WebCrypto; only the outer DER is read here.

/** The file is not a key that can be used here; the message is for people. */
export class KeyProblem extends Error {}
/** The file has a passphrase, and none (or a wrong one) was given. */
export class Passphrase extends KeyProblem {}

const PBES2 = "2a864886f70d01050d"; // 1.2.840.113549.1.5.13
const PBKDF2 = "2a864886f70d01050c"; // 1.2.840.113549.1.5.12
const PRF = {
  "2a864886f70d0207": "SHA-1",
  "2a864886f70d0209": "SHA-256",
  "2a864886f70d020a": "SHA-384",
  "2a864886f70d020b": "SHA-512",
};
const CIPHER = { "60864801650304012a": 256, "608648016503040116": 192, "608648016503040102": 128 };
const MOST_BYTES = 16_384; // a key file has some two hundred
const MOST_ROUNDS = 10_000_000; // of PBKDF2: a strange file must not hang the page

/** Whether the text of a file is a private key with a passphrase. */
export const isEncrypted = (pem) => pem.includes("-----BEGIN ENCRYPTED PRIVATE KEY-----");

/** Open a private key. @returns {Promise<CryptoKey>} @throws KeyProblem, Passphrase */
export async function open(pem, passphrase) {
  if (pem.length > MOST_BYTES) throw new KeyProblem("this file is too long for a key");
  const body = /-----BEGIN (ENCRYPTED )?PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END \1?PRIVATE KEY-----/.exec(pem);
  if (!body) throw new KeyProblem("this is not a private key: choose the file that scanward keys new wrote (not the .pub)");
  let der;
  try {
    der = Uint8Array.from(atob(body[2].replace(/\s/g, "")), (c) => c.charCodeAt(0));
  } catch {
    throw new KeyProblem("this file is damaged");
  }
  if (body[1]) der = await decrypted(der, passphrase);
  try {
    return await crypto.subtle.importKey("pkcs8", der, { name: "Ed25519" }, false, ["sign"]);
  } catch (error) {
    if (error.name === "NotSupportedError") {
      throw new KeyProblem("this browser cannot sign with Ed25519: use Chromium 137 or later, or scanward operator");
    }
    throw new KeyProblem(body[1] ? "wrong passphrase, or no Ed25519 key" : "this is no Ed25519 key");
  } finally {
    der.fill(0);
  }
}

async function decrypted(der, passphrase) {
  if (!passphrase) throw new Passphrase("this key has a passphrase");
  const how = scheme(der);
  const material = await crypto.subtle.importKey(
    "raw", new TextEncoder().encode(passphrase), "PBKDF2", false, ["deriveKey"],
  );
  const key = await crypto.subtle.deriveKey(
    { name: "PBKDF2", salt: how.salt, iterations: how.rounds, hash: how.hash },
    material, { name: "AES-CBC", length: how.bits }, false, ["decrypt"],
  );
  try {
    return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-CBC", iv: how.iv }, key, how.data));
  } catch {
    throw new Passphrase("wrong passphrase");
  }
}

/** EncryptedPrivateKeyInfo: how it was encrypted, and what. */
function scheme(der) {
  try {
    const [algorithm, data] = items(only(items(der), 0x30));
    const [oid, parameters] = items(algorithm.bytes);
    if (hex(oid.bytes) !== PBES2) throw new KeyProblem("this key is encrypted in a way that is not known here");
    const [derivation, encryption] = items(parameters.bytes);
    const [kdf, settings] = items(derivation.bytes);
    const [cipher, iv] = items(encryption.bytes);
    const [salt, rounds, ...rest] = items(settings.bytes);
    const prf = rest.find((one) => one.tag === 0x30);
    const hash = prf ? PRF[hex(items(prf.bytes)[0].bytes)] : "SHA-1"; // the default of RFC 8018
    const bits = CIPHER[hex(cipher.bytes)];
    const count = rounds.bytes.reduce((sum, byte) => sum * 256 + byte, 0);
    if (hex(kdf.bytes) !== PBKDF2 || !hash || !bits || count < 1 || count > MOST_ROUNDS) {
      throw new KeyProblem("this key is encrypted in a way that is not known here");
    }
    return { salt: salt.bytes, rounds: count, hash, bits, iv: iv.bytes, data: data.bytes };
  } catch (error) {
    if (error instanceof KeyProblem) throw error;
    throw new KeyProblem("this file is damaged");
  }
}

const hex = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

function only(found, tag) {
  if (found.length !== 1 || found[0].tag !== tag) throw new RangeError("not one element");
  return found[0].bytes;
}

/** The DER elements that stand one after the other. */
function items(bytes) {
  const out = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at];
    let length = bytes[at + 1];
    let start = at + 2;
    if (length > 0x80 && length <= 0x83) {
      const octets = length - 0x80;
      length = 0;
      for (let i = 0; i < octets; i += 1) length = length * 256 + bytes[start + i];
      start += octets;
    } else if (!(length < 0x80)) {
      throw new RangeError("a length that is none");
    }
    if (start + length > bytes.length) throw new RangeError("cut off");
    out.push({ tag, bytes: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return out;
}
