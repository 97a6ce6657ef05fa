"use strict";
const reveal=()=>{let one=document.getElementById(decodeURIComponent(location.hash.slice(1)));
for(const to=one;one;one=one.parentElement)if(one.tagName==="DETAILS"){one.open=true;to.scrollIntoView()}};
addEventListener("hashchange",reveal);reveal();
for(const part of document.querySelectorAll("[data-filter]")){
const rows=[...part.querySelectorAll("tbody tr")];
if(rows.length<8)continue;
const box=document.createElement("div"),label=document.createElement("label"),field=document.createElement("input"),
count=document.createElement("span");
box.className="filter";count.setAttribute("role","status");
label.textContent="Only rows on this page with ";
field.type="search";field.autocomplete="off";
label.append(field);box.append(label,count);part.prepend(box);
field.addEventListener("input",()=>{
const words=field.value.toLowerCase().split(/\s+/).filter(Boolean);
let shown=0;
for(const row of rows){
const all=row.textContent.toLowerCase(),fits=words.every(word=>all.includes(word));
row.hidden=!fits;shown+=fits}
if(words.length)for(const one of part.querySelectorAll("details"))one.open=true;
count.textContent=words.length?`${shown} of ${rows.length}`:""})}
