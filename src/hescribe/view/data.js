// Where sections, spots and values come from: the server, or what this page holds itself.
"use strict";
window.HEscribe = window.HEscribe || {};

(function (HEscribe) {
  async function ask(address) {
    const answer = await fetch(address, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }
  const json = async (address) => (await ask(address)).json();
  const floats = async (address) => new Float32Array(await (await ask(address)).arrayBuffer());

  function served() {
    return {
      section: (s) => json(`/section/${s}`),
      spots: (s) => floats(`/section/${s}/spots`),
      names: (s) => json(`/section/${s}/names`),
      values: (s, gene, layer) => floats(`/section/${s}/values/${gene}/${layer}`),
      domain: (s, column) => floats(`/section/${s}/domain/${column}`),
      tile: (s) => `/section/${s}/tile/{Z}/{X}/{Y}`,
    };
  }

  function decode(text) {
    return new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  }

  function embedded(sections) {
    return {
      section: async (s) => sections[s],
      spots: async (s) => decode(sections[s].spots),
      names: async (s) => sections[s].names,
      values: async (s, gene, layer) => decode(sections[s].values[gene][layer]),
      domain: async (s, column) => decode(sections[s].codes[column]),
    };
  }

  HEscribe.source = function () {
    const held = document.getElementById("embedded");
    return held ? embedded(JSON.parse(held.textContent)) : served();
  };
})(window.HEscribe);
